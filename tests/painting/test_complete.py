"""Models that lack a weight, in every part and layout: one line that names the weight and the model, and never noise in its place."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file

from singdiffusion import SingDiffusionError
from singdiffusion.compat import release
from singdiffusion.painting.bases import load_model, load_text, load_unet
from singdiffusion.painting.complete import network_class
from singdiffusion.published.keys import PREFIX
from tests.commands import refused

from ..plugin.zoo import ZOO, build
from .checkers import add_checker
from .single_files import TEXT, VAE, original_weights


def without(file, name):
    """Take a weight out of a file."""
    weights = load_file(file)
    (key,) = [key for key in weights if key.removeprefix("text_model.") == name]
    save_file({k: v for k, v in weights.items() if k != key}, file, metadata={"format": "pt"})


@pytest.fixture
def folder(pipe, tmp_path):
    add_checker(pipe)
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("unet", "time_embedding.linear_2.bias"),
        ("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"),
        ("vae", "decoder.conv_out.bias"),
        ("text_encoder", "encoder.layers.1.self_attn.k_proj.bias"),
        ("safety_checker", "concept_embeds"),
        ("safety_checker", "visual_projection.weight"),
    ],
)
def test_a_folder(folder, part, name):
    model = str(folder)
    load_model(model, "cpu", "float32")
    (file,) = (folder / part).glob("*.safetensors")
    without(file, name)
    named = f" of its {part}" if part not in ("unet", "vae") or release("diffusers") >= (0, 33) else ""
    match = rf"{model} lacks the weight (text_model\.)?{name}{named}; take a complete copy"
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(SingDiffusionError, match=match) as caught:
            load_model(model, "cpu", dtype)
        assert caught.value.setting == "model"
    for own, load in (("unet", load_unet), ("text_encoder", lambda model: load_text(model, torch.float32))):
        if part == own:
            with pytest.raises(SingDiffusionError, match=f"lacks the weight .* of its {part}"):
                load(model)
        else:
            load(model)


def test_a_controlnet(tokenizer, tmp_path):
    pipe = build("StableDiffusionControlNetPipeline", tokenizer)[0]
    pipe.save_pretrained(tmp_path / "model")
    (file,) = (tmp_path / "model" / "controlnet").glob("*.safetensors")
    without(file, "controlnet_mid_block.weight")
    with pytest.raises(SingDiffusionError, match=r"model lacks the weight controlnet_mid_block\.weight"):
        load_model(str(tmp_path / "model"), "cpu")


def test_several_are_counted(folder):
    for name in ("conv_in.bias", "conv_in.weight", "conv_out.bias"):
        without(folder / "unet" / "diffusion_pytorch_model.safetensors", name)
    with pytest.raises(SingDiffusionError, match=r"lacks the weight conv_\w+\.\w+ and 2 more"):
        load_model(str(folder), "cpu")


@pytest.fixture
def single(pipe, tmp_path):
    """Writes a single file without one weight, and returns its path; and the folder of configurations."""
    pipe.save_pretrained(tmp_path / "model")
    weights = original_weights(pipe)

    def single(lacking=None):
        assert lacking is None or lacking in weights
        save_file({k: v for k, v in weights.items() if k != lacking}, tmp_path / "one.safetensors")
        return tmp_path / "one.safetensors", tmp_path / "model"

    return single


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        (PREFIX + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", None),
        (PREFIX + "out.2.bias", None),
        (PREFIX + "input_blocks.2.0.op.bias", None),
        (PREFIX + "time_embed.0.weight", "time_embedding.linear_1.weight of its unet"),
        (VAE + "encoder.conv_in.weight", "encoder.conv_in.weight of its vae"),
        (VAE + "quant_conv.bias", "quant_conv.bias of its vae"),
        (VAE + "encoder.down.0.downsample.conv.bias", None),
        (VAE + "decoder.up.1.upsample.conv.bias", None),
        (TEXT + "embeddings.token_embedding.weight", "embeddings.token_embedding.weight of its text_encoder"),
        (TEXT + "embeddings.position_embedding.weight", None),
        (TEXT + "encoder.layers.1.mlp.fc2.bias", "encoder.layers.1.mlp.fc2.bias of its text_encoder"),
    ],
)
def test_a_single_file(single, lacking, named):
    file, config = single(lacking)
    with pytest.raises(SingDiffusionError) as caught:
        load_model(str(file), "cpu", "float32", config)
    line = str(caught.value).replace("weight text_model.", "weight ")  # as older versions of transformers have it
    assert line.startswith(f"the model {file} lacks the weight {named or lacking}")
    assert "\n" not in line


def test_every_single_weight_of_a_single_file(single, pipe):
    """A sample of a fifth of them, and none loads."""
    for lacking in list(original_weights(pipe))[::5]:
        file, config = single(lacking)
        with pytest.raises(SingDiffusionError, match="lacks the weight"):
            load_model(str(file), "cpu", "float32", config)
    load_model(str(single()[0]), "cpu", "float32", config)


@pytest.mark.slow
def test_the_command_prints_one_line(single, folder, tmp_path):
    file, config = single(PREFIX + "out.2.bias")
    common = ("--module", "none", "--steps", 1, "--out", tmp_path / "o")
    match = f"{file} lacks the weight {PREFIX}out.2.bias of its unet; take a complete copy (--model)"
    refused("generate", "a", "--model", file, "--model-config", config, *common, match=match)
    without(folder / "text_encoder" / "model.safetensors", "final_layer_norm.bias")
    commands = [("generate", "a", *common)]
    if find_spec("gradio"):
        commands.append(("serve", "--port", 0, "--module", "none"))
    for command in commands:
        refused(*command, "--model", folder, match="final_layer_norm.bias of its text_encoder")


def test_which_components_transformers_loads(folder):
    index = json.loads((folder / "model_index.json").read_text())
    found = {name: network_class(value) for name, value in index.items() if isinstance(value, list)}
    assert {name for name, kind in found.items() if kind is not None} == {"text_encoder", "safety_checker"}
    for other in (["os", "PathLike"], [None, None], ["transformers", "nothing"], ["my_pipeline", "Thing"], [1, 2]):
        assert network_class(other) is None


def test_a_component_whose_folder_is_gone_is_still_an_error(folder):
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(SingDiffusionError, match="cannot be read"):
        load_model(str(folder), "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_complete_model_of_every_class_is_loaded(name, tokenizer, tmp_path):
    pipe = build(name, tokenizer)[0]
    pipe.save_pretrained(tmp_path / "model")
    loaded = load_model(str(tmp_path / "model"), "cpu", "float32")
    for part, network in loaded.components.items():
        if isinstance(network, torch.nn.Module):
            theirs = getattr(pipe, part).state_dict()
            assert network.state_dict().keys() == theirs.keys()
            assert all(torch.equal(weight, theirs[key]) for key, weight in network.state_dict().items()), part
            assert not network.training
