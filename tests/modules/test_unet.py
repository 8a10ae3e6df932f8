"""``TimeFreeUNet``: no time input, the published layout, and the features of a diffusers model."""

import json
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from singdiffusion import SingDiffusionError, TimeFreeUNet

from ..conftest import TEXT_WIDTH, UNET_SIZE, make_module

SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}


def inputs(batch=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 4, 8, 8, generator=generator), torch.randn(batch, 5, TEXT_WIDTH, generator=generator)


def base(seed=3):
    torch.manual_seed(seed)
    return UNet2DConditionModel(in_channels=4, out_channels=4, **UNET_SIZE).eval()


def test_the_output_does_not_depend_on_the_timestep():
    module, (x, text) = make_module(), inputs()
    with torch.no_grad():
        outputs = [module(x, t, text).sample for t in (0, 1, 999, torch.tensor([3, 7]))]
        assert all(torch.equal(outputs[0], other) for other in outputs)
        assert torch.equal(module.predict(x, text), outputs[0])
        assert not torch.equal(module.predict(x, text + 1), outputs[0]), "it depends on the prompt"


def test_keys_and_parameters_at_full_size():
    """SD-1.5's U-Net has 686 keys and 859.5 M parameters; the published module's 642 include 4 unused ones of the time embedding."""
    with init_empty_weights():
        full, ours = UNet2DConditionModel(**SD15), TimeFreeUNet(**SD15)
    theirs, ours_keys = set(full.state_dict()), set(ours.state_dict())
    time_projections = {key for key in theirs if ".time_emb_proj." in key}
    unused = {key for key in theirs if key.startswith("time_embedding.")}
    assert (len(theirs), len(time_projections), len(unused)) == (686, 44, 4)
    assert ours_keys == theirs - time_projections - unused
    assert sum(p.numel() for p in ours.parameters()) == 831_645_444


def test_saved_and_loaded_bit_for_bit(tmp_path):
    module, (x, text) = make_module(), inputs()
    module.save_pretrained(tmp_path)
    again = TimeFreeUNet.from_pretrained(tmp_path)
    assert tuple(again.config.block_out_channels) == UNET_SIZE["block_out_channels"], "not the default network"
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "TimeFreeUNet"
    assert load_file(tmp_path / "diffusion_pytorch_model.safetensors").keys() == module.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(again.predict(x, text), module.predict(x, text))


def test_the_published_layout_loads(tmp_path):
    """A `.bin` and a plain config: the U-Net's keys without the time projections, with the unused time embedding."""
    full = base()
    published = {key: value for key, value in full.state_dict().items() if ".time_emb_proj." not in key}
    assert any(key.startswith("time_embedding.") for key in published)
    torch.save(published, tmp_path / "diffusion_pytorch_model.bin")
    config = dict(full.config) | {"_class_name": "UNet2DConditionModel"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded: Any = TimeFreeUNet.from_pretrained(tmp_path, use_safetensors=False, output_loading_info=True)
    module, report = loaded
    assert not report["missing_keys"]
    assert not any(parameter.is_meta for parameter in module.parameters())
    for key, value in module.state_dict().items():
        assert torch.equal(value, published[key]), key


def test_a_warm_start_copies_all_weights_but_those_of_time(tmp_path):
    full = base()
    module = TimeFreeUNet.from_unet(full)
    for key, value in module.state_dict().items():
        assert torch.equal(value, full.state_dict()[key]), key
    full.save_pretrained(tmp_path)
    loaded = TimeFreeUNet.from_pretrained(tmp_path)
    x, text = inputs()
    with torch.no_grad():
        assert torch.equal(loaded.predict(x, text), module.eval().predict(x, text))


def test_a_warm_start_from_a_base_with_added_conditions():
    """The pooled text of SDXL-like bases acts through the time embedding, and is dropped."""
    torch.manual_seed(0)
    full = UNet2DConditionModel(
        in_channels=4, out_channels=4, addition_embed_type="text", addition_embed_type_num_heads=4, **UNET_SIZE
    )
    assert not any("add_embedding" in key for key in TimeFreeUNet.from_unet(full).state_dict())


def test_gradient_checkpointing_gives_the_same_gradients():
    x, text = inputs()
    gradients = []
    for checkpointing in (False, True):
        module = make_module().train().requires_grad_(True)
        if checkpointing:
            module.enable_gradient_checkpointing()
        module.predict(x, text).square().mean().backward()
        gradients.append({key: p.grad for key, p in module.named_parameters()})
    assert all(g is not None for g in gradients[0].values()), "every weight has a gradient"
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value)


@pytest.mark.slow
def test_torch_compile_without_graph_breaks():
    module, (x, text) = make_module(), inputs()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, 0, text).sample, module.predict(x, text))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tmp_path, dtype):
    module, (x, text) = make_module(), inputs()
    module.save_pretrained(tmp_path)
    half = TimeFreeUNet.from_pretrained(tmp_path, torch_dtype=dtype)
    assert half.dtype == dtype
    with torch.no_grad():
        output = half.predict(x.to(dtype), text.to(dtype))
        torch.testing.assert_close(output.float(), module.predict(x, text), atol=0.05, rtol=0.05)


def test_attention_processors_and_adapters():
    from peft import LoraConfig

    module, (x, text) = make_module(), inputs()
    module.set_default_attn_processor()
    with torch.no_grad():
        before = module.predict(x, text)
        module.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
        assert not torch.equal(module.predict(x, text), before)


def test_push_to_hub_uploads_what_is_saved(tmp_path):
    """``push_to_hub`` is diffusers', which uploads what ``save_pretrained`` writes."""
    assert TimeFreeUNet.push_to_hub.__qualname__.startswith("PushToHubMixin")
    make_module().save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}


@pytest.mark.parametrize(
    "option",
    [
        {"addition_embed_type": "text"},
        {"class_embed_type": "timestep"},
        {"num_class_embeds": 3},
        {"time_cond_proj_dim": 8},
        {"resnet_time_scale_shift": "scale_shift"},
    ],
)
def test_options_that_need_time_are_errors(option):
    with pytest.raises(SingDiffusionError, match="no time embedding"):
        TimeFreeUNet(**(UNET_SIZE | {"addition_embed_type_num_heads": 4}), **option)


def test_a_warm_start_from_another_layout_is_an_error():
    odd = base()
    odd.conv_in = torch.nn.Conv2d(4, 8, 3)
    with pytest.raises(SingDiffusionError, match="conv_in"):
        TimeFreeUNet.from_unet(odd)
