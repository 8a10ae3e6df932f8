"""The plug-in beside what else people put on a pipeline: LoRA, IP-Adapter, attention processors, offloading, prompt weighting."""

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_module
from diffusers import EulerDiscreteScheduler
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig

from singdiffusion import SingDiffusion
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import PromptEncoder, fingerprint

from ..conftest import TEXT_WIDTH, make_config, make_module, make_text_encoder
from .painting import PROMPT, expected_mean, first_input, noise, run, true_alpha_sigma
from .test_pipelines import paint, plug, predictions, sing_for
from .zoo import build

SDS = [
    "StableDiffusionPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionInpaintPipeline",
]


def right_first_input(pipe, sing, got, timestep):
    alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
    x_1 = noise()
    torch.testing.assert_close(
        got, alpha * expected_mean(pipe, sing.module.network, x_1) + sigma * x_1, atol=1e-5, rtol=1e-5
    )


def lora(network, names):
    torch.manual_seed(4)
    network.add_adapter(LoraConfig(r=2, target_modules=names, init_lora_weights=False))


def test_a_lora_on_the_denoiser(pipe, sing):
    off = run(pipe)
    sing.enable(pipe)
    on = run(pipe)
    lora(pipe.unet, ["to_q", "to_v"])
    right_first_input(pipe, sing, *first_input(pipe))
    assert not np.array_equal(run(pipe), on), "the LoRA acts"
    pipe.unet.disable_adapters()
    np.testing.assert_array_equal(run(pipe), on)
    sing.disable()
    np.testing.assert_array_equal(run(pipe), off)


def test_a_lora_loaded_and_fused_as_people_do(pipe, sing, tmp_path):
    lora(pipe.unet, ["to_q", "to_v"])
    from peft.utils import get_peft_model_state_dict

    pipe.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(pipe.unet))
    pipe.unet.delete_adapters("default")
    sing.enable(pipe)
    plain = run(pipe)
    pipe.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    with_lora = run(pipe)
    assert not np.array_equal(with_lora, plain)
    pipe.fuse_lora()
    np.testing.assert_allclose(run(pipe), with_lora, atol=1e-4)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    np.testing.assert_allclose(run(pipe), plain, atol=1e-4)


def test_other_attention_processors(pipe, sing):
    sing.enable(pipe)
    on = run(pipe)
    pipe.unet.set_attn_processor(AttnProcessor())
    right_first_input(pipe, sing, *first_input(pipe))
    np.testing.assert_allclose(run(pipe), on, atol=1e-4)


def ip_adapter(pipe, width=12, tokens=4):
    """An IP-Adapter with random weights, in the layout of its files."""
    cross = pipe.unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(0)
    weights = lambda *shape: torch.randn(shape, generator=generator) * 0.2  # noqa: E731
    layers, number = {}, 1
    for name, processor in pipe.unet.attn_processors.items():
        del processor
        if name.endswith("attn1.processor"):
            continue
        inner = pipe.unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        layers |= {f"{number}.to_k_ip.weight": weights(inner, cross), f"{number}.to_v_ip.weight": weights(inner, cross)}
        number += 2
    projection = {
        "proj.weight": weights(tokens * cross, width),
        "proj.bias": weights(tokens * cross),
        "norm.weight": torch.ones(cross),
        "norm.bias": torch.zeros(cross),
    }
    pipe.unet._load_ip_adapter_weights({"image_proj": projection, "ip_adapter": layers})
    return [torch.randn(2, 1, width, generator=generator)]


@pytest.mark.parametrize("name", SDS)
def test_an_ip_adapter(name, tokenizer):
    pipe, options = build(name, tokenizer)
    images = ip_adapter(pipe)
    off = paint(pipe, options, ip_adapter_image_embeds=images)
    sing = sing_for(pipe, tokenizer)
    plug(sing, pipe)
    with predictions(sing.module.network) as recorded:
        on = paint(pipe, options, ip_adapter_image_embeds=images)
    assert len(recorded) == 1
    assert not np.array_equal(on, off)
    sing.disable()
    np.testing.assert_array_equal(paint(pipe, options, ip_adapter_image_embeds=images), off)


@pytest.mark.parametrize("name", SDS)
def test_sequential_offloading(name, tokenizer):
    """As ``enable_sequential_cpu_offload`` does it: weights on the meta device between the layers' own calls."""
    pipe, options = build(name, tokenizer)
    sing = sing_for(pipe, tokenizer)
    plug(sing, pipe)
    on = paint(pipe, options)
    sing.disable()
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for part in parts:
        cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)
    assert next(pipe.unet.parameters()).device.type == "meta"
    plug(sing, pipe)
    np.testing.assert_array_equal(paint(pipe, options), on)
    assert next(pipe.unet.parameters()).device.type == "meta"
    for part in parts:
        remove_hook_from_module(part, recurse=True)


@pytest.mark.parametrize("name", SDS)
def test_model_offloading(name, tokenizer):
    """Whole networks take turns on the device; the module leaves it after its turn."""
    pipe, options = build(name, tokenizer)
    sing = sing_for(pipe, tokenizer)
    plug(sing, pipe)
    on = paint(pipe, options)
    pipe.enable_model_cpu_offload(device="cpu")
    moves = []
    network = sing.module.network  # its own text encoders stay where they are, because the pipeline's serve
    network.to = lambda device, to=network.to: moves.append(str(device)) or to(device)
    np.testing.assert_array_equal(paint(pipe, options), on)
    assert moves == ["cpu", "cpu"], "to the pipeline's device, and back"


def test_a_color_with_an_offloaded_vae(pipe):
    sing = SingDiffusion().enable(pipe, color="navy")
    on = run(pipe)
    cpu_offload(pipe.vae, torch.device("cpu"))
    np.testing.assert_array_equal(run(pipe), on)
    sing.disable()


def test_a_long_prompt_is_cut_as_the_pipeline_cuts_it(pipe, sing, tokenizer):
    long = "a dark room, " * 20
    sing.enable(pipe)
    shared = run(pipe, long)
    sing.disable()
    encoder = make_text_encoder(tokenizer)
    encoder.load_state_dict(pipe.text_encoder.state_dict())
    other = make_text_encoder(tokenizer, TEXT_WIDTH, seed=1)
    fine_tuned = SingDiffusion(
        SingModule(sing.module.network, sing.module.config, PromptEncoder([tokenizer], [encoder]))
    )
    pipe.text_encoder = other  # a community checkpoint's: the module reads the prompt itself
    base = run(pipe, long)
    fine_tuned.enable(pipe)
    with predictions(fine_tuned.module.network) as recorded:
        on = run(pipe, long)
    assert not np.array_equal(on, base)
    assert not np.array_equal(on, shared)
    tokens = tokenizer(["", long], padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
    torch.testing.assert_close(recorded[0][1], encoder(tokens)[0])


def test_stable_diffusion_2_with_a_module_of_stable_diffusion_1(make_pipe, tokenizer):
    """v-prediction, wider text, the same latents: the module reads the prompt with its own encoder."""
    pipe = make_pipe(width=24)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type="v_prediction")
    encoder = make_text_encoder(tokenizer, TEXT_WIDTH, seed=7).requires_grad_(False)
    config = make_config(text_fingerprint=fingerprint(encoder))
    sing = SingDiffusion(SingModule(make_module(), config, PromptEncoder([tokenizer], [encoder]))).enable(pipe)
    for cls in (type(pipe.scheduler), EulerDiscreteScheduler):
        pipe.scheduler = cls.from_config(pipe.scheduler.config)
        got, timestep = first_input(pipe)
        alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
        x_1 = noise()
        tokens = tokenizer(
            ["", PROMPT], padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            y_neg, y_pos = (sing.module.network.predict(x_1, row[None]) for row in encoder(tokens)[0])
        expected = alpha * (y_neg + 7.5 * (y_pos - y_neg)) / 7.5 + sigma * x_1
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
