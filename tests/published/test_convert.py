"""Layouts of others: read bit for bit, used as what they predict, one-line errors for damaged files."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from singdiffusion import SingDiffusion, SingDiffusionError, TimeFreeUNet
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import fingerprint
from singdiffusion.published.convert import convert as convert_module
from singdiffusion.published.keys import PREFIX

from ..conftest import TEXT_WIDTH, UNET_SIZE, make_config, make_module, make_text_encoder, needs_pickles
from ..plugin.painting import first_input, noise, true_alpha_sigma
from ..plugin.zoo import SDXL_WIDTH, build
from .layouts import unet_config, write_one_more_step

pytestmark = needs_pickles


def unused_time_weights(width=16):
    """Return the weights of the time embedding that the authors' file still contains."""
    return {
        f"time_embedding.linear_{i}.{kind}": torch.zeros(4 * width, *([width] if kind == "weight" else []))
        for i in (1, 2)
        for kind in ("weight", "bias")
    }


@pytest.fixture
def authors(tmp_path):
    """A folder in the layout of SingDiffusion's authors, and its network."""
    module, folder = make_module(), tmp_path / "authors"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(unet_config(module)))
    torch.save(module.state_dict() | unused_time_weights(), folder / "diffusion_pytorch_model.bin")
    return folder, module


@pytest.fixture
def one_more_step(tmp_path, tokenizer):
    """A folder in OneMoreStep's layout, with its text encoder in it, and its network."""
    module, folder = make_module(), tmp_path / "oms_15_21"
    write_one_more_step(folder, module, tokenizer, make_text_encoder(tokenizer, seed=8))
    return folder, module


def convert(*args, **options):
    """Convert without the text of a base, which most of these modules do not name."""
    return convert_module(*args, **({"bring_text": False} | options))


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one)


# -- layouts ----------------------------------------------------------------------------------------------------------


def test_the_authors_layout(authors, tmp_path):
    folder, module = authors
    config = convert(folder, tmp_path / "ours")
    assert (config.latent_channels, config.text_width, config.vae_scaling_factor) == (4, TEXT_WIDTH, 0.18215)
    assert (config.prediction, config.normalise_guidance, config.guidance_scale) == ("sample", True, None)
    sing = SingDiffusion.from_pretrained(tmp_path / "ours")
    assert_same(sing.module.network.state_dict(), module.state_dict())
    x_1, embeddings = noise(2), torch.randn(2, 5, TEXT_WIDTH)
    with torch.no_grad():
        assert torch.equal(sing.module.network.predict(x_1, embeddings), module.predict(x_1, embeddings))


def test_a_base_sets_the_latent_space_and_the_text(authors, make_pipe, tmp_path):
    pipe = make_pipe(scaling=0.13025)
    pipe.save_pretrained(tmp_path / "base")
    config = convert(authors[0], tmp_path / "ours", base=tmp_path / "base", bring_text=True)
    assert config.vae_scaling_factor == 0.13025
    assert config.text_fingerprint == pytest.approx(fingerprint(pipe.text_encoder), abs=1e-4)
    sing = SingDiffusion.from_pretrained(tmp_path / "ours")
    assert sing.module.text is not None
    sing.enable(make_pipe(scaling=0.13025))
    with pytest.raises(SingDiffusionError, match="another latent space"):
        SingDiffusion.from_pretrained(tmp_path / "ours").enable(make_pipe())


def test_an_sdxl_as_base_brings_both_text_encoders(tmp_path, tokenizer):
    pipe, _ = build("StableDiffusionXLPipeline", tokenizer)
    pipe.save_pretrained(tmp_path / "sdxl")
    module = make_module(width=SDXL_WIDTH)
    module.save_pretrained(tmp_path / "authors")
    (tmp_path / "authors" / "config.json").write_text(json.dumps(unet_config(module)))
    config = convert_module(tmp_path / "authors", tmp_path / "ours", base=tmp_path / "sdxl", bring_text=True)
    assert (config.vae_scaling_factor, config.text_width) == (0.13025, SDXL_WIDTH)
    assert (tmp_path / "ours" / "text_encoder_2" / "model.safetensors").is_file()
    loaded = SingDiffusion.from_pretrained(tmp_path / "ours")
    positive, negative, *_ = pipe.encode_prompt("a dark room", negative_prompt="grey")
    for ours, theirs in zip(loaded.module.encode_prompt("a dark room", "grey"), (positive, negative), strict=True):
        torch.testing.assert_close(ours, theirs)
    kept = convert_module(tmp_path / "authors", tmp_path / "thin", base=tmp_path / "sdxl")
    assert kept.text_fingerprint == config.text_fingerprint
    assert not (tmp_path / "thin" / "text_encoder").exists()


def test_a_text_encoder_of_its_own_is_kept_and_never_lost_in_a_single_file(one_more_step, tmp_path):
    convert_module(one_more_step[0], tmp_path / "ours")
    convert_module(tmp_path / "ours", tmp_path / "again")
    assert SingModule.from_pretrained(tmp_path / "again").text is not None
    with pytest.raises(SingDiffusionError, match="a single file holds no text encoder") as caught:
        convert_module(tmp_path / "ours", tmp_path / "one.safetensors")
    assert caught.value.setting == "no_text"
    convert(tmp_path / "ours", tmp_path / "one.safetensors")
    assert (tmp_path / "one.safetensors").is_file()


def test_a_decoder_is_no_single_file(tmp_path):
    with pytest.raises(SingDiffusionError, match="holds a U-Net, and this module is a MeanDecoder; write a folder"):
        convert("tiny", tmp_path / "one.safetensors")


def test_one_more_step_predicts_the_mean_with_the_other_sign(one_more_step, pipe, tmp_path):
    """v = alpha noise - sigma x_0 is -x_0 at t = 1. Guidance has a scale of its own, 1 by default. The noise is scaled by sigma."""
    folder, module = one_more_step
    config = convert_module(folder, tmp_path / "ours")
    assert (config.prediction, config.normalise_guidance, config.guidance_scale) == ("v_prediction", False, 1.0)
    sing = SingDiffusion.from_pretrained(tmp_path / "ours").enable(pipe)
    x_1 = noise()
    for options, weight in (({}, 1.0), ({"guidance_scale": 2.0}, 2.0)):
        sing.enable(pipe, **options)
        got, timestep = first_input(pipe)
        alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
        with torch.no_grad():
            v_neg, v_pos = (module.predict(x_1, sing.module.text.encode([text])) for text in ("", "a dark room"))
        expected = alpha * -(v_neg + weight * (v_pos - v_neg)) + sigma * x_1
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_half_precision_is_kept(one_more_step, tmp_path):
    folder, module = one_more_step
    file = folder / "oms_module" / "diffusion_pytorch_model.safetensors"
    save_file(
        {k: v.half() for k, v in module.state_dict().items()},
        file.with_name("diffusion_pytorch_model.fp16.safetensors"),
    )
    file.unlink()
    convert(folder, tmp_path / "ours")
    assert (
        load_file(next((tmp_path / "ours" / "module").glob("*.safetensors")))["conv_in.weight"].dtype == torch.float16
    )
    convert(folder, tmp_path / "wide", torch_dtype=torch.float32)
    assert (
        load_file(next((tmp_path / "wide" / "module").glob("*.safetensors")))["conv_in.weight"].dtype == torch.float32
    )


# -- single files -----------------------------------------------------------------------------------------------------

DEEP = {
    "block_out_channels": (16, 16, 32, 32),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}


@pytest.mark.parametrize("size", [{}, DEEP], ids=["small", "as deep as Stable Diffusion"])
def test_a_round_trip_through_a_single_file(size, tmp_path):
    torch.manual_seed(1)
    module = TimeFreeUNet(in_channels=4, out_channels=4, **(UNET_SIZE | size))
    SingModule(module, make_config(name="mine")).save_pretrained(tmp_path / "ours")
    file = tmp_path / "one.safetensors"
    convert(tmp_path / "ours", file)
    assert convert(file, tmp_path / "again").name == "mine"
    assert_same(SingDiffusion.from_pretrained(tmp_path / "again").module.network.state_dict(), module.state_dict())
    # diffusers' converter reads the file, so its layout is the original one
    theirs = convert_ldm_unet_checkpoint(load_file(file), dict(module.config))
    assert_same(theirs, module.state_dict())


def test_a_single_file_of_unknown_size_needs_a_configuration(tmp_path):
    module = make_module()
    SingModule(module, make_config()).save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "one.safetensors")
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(tmp_path / "one.safetensors"), bare)  # without metadata
    with pytest.raises(SingDiffusionError, match="not of SD-1.x or SD-2.x size; pass its config.json") as caught:
        convert(bare, tmp_path / "again")
    assert caught.value.setting == "unet_config"
    convert(bare, tmp_path / "again", unet_config=tmp_path / "ours" / "module" / "config.json")
    assert_same(SingDiffusion.from_pretrained(tmp_path / "again").module.network.state_dict(), module.state_dict())


def test_other_weights_in_a_single_file_are_ignored(tmp_path):
    module = make_module()
    SingModule(module, make_config()).save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "one.safetensors")
    with safe_open(tmp_path / "one.safetensors", "pt") as opened:
        metadata = opened.metadata()
    both = load_file(tmp_path / "one.safetensors") | {"first_stage_model.quant_conv.bias": torch.zeros(8)}
    save_file(both, tmp_path / "both.safetensors", metadata)
    convert(tmp_path / "both.safetensors", tmp_path / "again")
    assert all(key.startswith(PREFIX) for key in load_file(tmp_path / "one.safetensors"))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"sing_config": '{"latent_channels": 0}'},
            "the metadata of .*one.safetensors: latent_channels must be greater than 0",
        ),
        ({"sing_config": "{"}, "the metadata of .*one.safetensors cannot be read as JSON"),
        ({"unet_config": "{"}, "the metadata of .*one.safetensors cannot be read"),
        ({"unet_config": "null"}, "must hold an object, not null"),
        ({"unet_config": "[1]"}, "must hold an object, not a list"),
    ],
)
def test_damaged_metadata_of_a_single_file(tmp_path, change, line):
    SingModule(make_module(), make_config()).save_pretrained(tmp_path / "ours")
    file = tmp_path / "one.safetensors"
    convert(tmp_path / "ours", file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file(load_file(file), file, metadata | change)
    with pytest.raises(SingDiffusionError, match=line) as caught:
        convert(file, tmp_path / "again")
    assert "\n" not in str(caught.value)


# -- errors -----------------------------------------------------------------------------------------------------------


class _Evil:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (os.system, (f"touch {self.flag}",))


def test_a_malicious_pickle_is_never_run(authors, tmp_path):
    folder, _ = authors
    flag, file = tmp_path / "it ran", folder / "diffusion_pytorch_model.bin"
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        save({"conv_in.weight": _Evil(flag)}, file)
        with pytest.raises(SingDiffusionError, match="could run code|cannot be read"):
            convert(folder, tmp_path / "ours")
    assert not flag.exists()
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("tenths", range(10))
def test_truncated_files(one_more_step, authors, tmp_path, tenths):
    for folder, file in (
        (one_more_step[0], one_more_step[0] / "oms_module" / "diffusion_pytorch_model.safetensors"),
        (authors[0], authors[0] / "diffusion_pytorch_model.bin"),
    ):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * tenths // 10])
        with pytest.raises(SingDiffusionError, match="cannot be read|could run code"):
            convert(folder, tmp_path / "ours")
        assert not (tmp_path / "ours").exists()
        file.write_bytes(content)


def rewrite(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    kept = {key: value for key, value in (config | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"cross_attention_dim": None}, "lacks cross_attention_dim, the width of the text"),
        ({"block_out_channels": (16, 64)}, "its configuration needs"),
        ({"layers_per_block": 2}, "lack .* tensors, such as"),
        ({"block_out_channels": (16,)}, "makes no U-Net"),
        ({"down_block_types": ("NoSuchBlock", "DownBlock2D")}, "makes no U-Net"),
        ({"class_embed_type": "timestep"}, "no time embedding"),
    ],
)
def test_configurations_that_do_not_fit(authors, tmp_path, changes, line):
    rewrite(authors[0], **changes)
    with pytest.raises(SingDiffusionError, match=line):
        convert(authors[0], tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_unknown_keys_in_a_published_configuration_are_ignored(authors, tmp_path):
    """Published configurations contain keys of other versions of diffusers."""
    rewrite(authors[0], a_key_of_the_future=1, _diffusers_version="0.14.0")
    convert(authors[0], tmp_path / "ours")
    assert_same(SingDiffusion.from_pretrained(tmp_path / "ours").module.network.state_dict(), authors[1].state_dict())


def test_weights_that_do_not_fit(authors, tmp_path):
    folder, module = authors
    file, state = folder / "diffusion_pytorch_model.bin", module.state_dict()
    base = UNet2DConditionModel(in_channels=4, out_channels=4, **UNET_SIZE).state_dict()
    missing = {key: value for key, value in state.items() if key != "conv_out.bias"}
    for weights, line in (
        (missing, "lack 1 tensors, such as conv_out.bias"),
        (state | {"mid_block.extra.weight": torch.zeros(1)}, "mid_block.extra.weight has no place in that network"),
        (base, "is a denoiser, which takes the time"),
        (state | {"conv_out.bias": torch.tensor([0.0, float("nan"), 0, 0])}, "conv_out.bias has NaN"),
        ([1, 2], "holds no table of weights"),
        ({"conv_in.weight": 3}, "holds no table of weights"),
    ):
        torch.save(weights, file)
        with pytest.raises(SingDiffusionError, match=line):
            convert(folder, tmp_path / "ours")
        assert not (tmp_path / "ours").exists()


def test_invalid_sources_and_targets(authors, tokenizer, make_pipe, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "letter.txt").write_text("dear")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    make_pipe(width=24).save_pretrained(tmp_path / "wide")
    for source, target, options, line in (
        (tmp_path / "nowhere", "ours", {}, "is not here: there is no such folder"),
        (tmp_path / "empty", "ours", {}, "is not a module: it has neither sing_config.json"),
        (tmp_path / "bare", "ours", {}, "has no weights; it needs one of"),
        (authors[0] / "diffusion_pytorch_model.bin", "ours", {}, "is not a .safetensors file"),
        (authors[0], "kept", {}, "exists and is not a SingDiffusion module"),
        (authors[0], "nowhere/one.safetensors", {}, "there is no folder"),
        (authors[0], "ours", {"bring_text": True}, "which is not Stable Diffusion 1's; pass a base"),
        (authors[0], "ours", {"base": tmp_path / "empty"}, "is not a diffusers model: it has no vae/config.json"),
        (
            authors[0],
            "ours",
            {"base": tmp_path / "wide"},
            "takes text of width 16, and the text encoder in .* has width 24",
        ),
    ):
        with pytest.raises(SingDiffusionError, match=line):
            convert(source, tmp_path / target, **options)
    assert (tmp_path / "kept" / "letter.txt").read_text() == "dear"
    assert make_text_encoder(tokenizer).config.hidden_size == TEXT_WIDTH


def test_targets_are_checked_before_the_source_is_looked_for(tmp_path, monkeypatch):
    """One line with the name as it was given; nothing is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("x")
    (tmp_path / "folder.safetensors").mkdir()
    save_file({"a": torch.zeros(1)}, "others.safetensors")
    os.mkfifo("pipe.safetensors")
    (tmp_path / "link").symlink_to("nowhere/x")
    before = sorted(os.listdir())
    for target, line in (
        ("", "the target has an empty name"),
        ("f", "f exists and is not a SingDiffusion module"),
        ("f/x", "cannot write f/x: Not a directory"),
        ("f/x.safetensors", "cannot write f/x.safetensors: Not a directory"),
        ("/proc/x", "cannot write /proc/x: "),
        ("/proc/x.safetensors", "cannot write /proc/x.safetensors: "),
        ("/dev/full", "/dev/full exists and is not"),
        ("folder.safetensors", "exists and is not a module's single file"),
        ("others.safetensors", "exists and is not a module's single file"),
        ("pipe.safetensors", "exists and is not a module's single file"),
        ("link", "link exists and is not"),
        ("a\0b", "cannot write a.*b: embedded null"),
        (300 * "x", "File name too long"),
    ):
        with pytest.raises(SingDiffusionError, match=line) as caught:
            convert("no/source", target)
        assert ".singdiffusion-" not in str(caught.value)
    assert sorted(os.listdir()) == before


def test_a_single_file_replaces_only_a_modules(authors, tmp_path):
    convert(authors[0], tmp_path / "one.safetensors")
    convert(authors[0], tmp_path / "one.safetensors")
    assert "sing_config" in safe_open(tmp_path / "one.safetensors", "pt").metadata()


# -- full size --------------------------------------------------------------------------------------------------------

MAKE = """
import json, sys, torch
from pathlib import Path
from diffusers import UNet2DConditionModel
folder = Path(sys.argv[1]); folder.mkdir()
config = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
with torch.device("meta"):
    unet = UNet2DConditionModel(**config)
generator = torch.Generator().manual_seed(0)
weights = {
    key: torch.randn(value.shape, generator=generator) * 0.01
    for key, value in unet.state_dict().items() if ".time_emb_proj." not in key
}
(folder / "config.json").write_text(json.dumps(config | {"_class_name": "UNet2DConditionModel"}))
torch.save(weights, folder / "diffusion_pytorch_model.bin")
print(len(weights), sum(value.numel() for value in weights.values()))
"""

CONVERT = """
import resource, sys
from singdiffusion.cli import main
from singdiffusion.published.convert import convert
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(sys.argv[1], sys.argv[2], bring_text=False)
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_full_size(tmp_path):
    """SD-1.5's size in the authors' layout: 642 keys, 833.7 M parameters; bit-equal, outputs equal, memory at most 1.3 times."""

    def python(code, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        return [int(word) for word in done.stdout.split()]

    keys, parameters = python(MAKE, tmp_path / "authors")
    assert keys == 642
    assert parameters == pytest.approx(833.7e6, abs=0.1e6)
    _, peak = python(CONVERT, tmp_path / "authors", tmp_path / "ours")
    assert peak * 1024 < 1.3 * 4 * parameters

    theirs = torch.load(tmp_path / "authors" / "diffusion_pytorch_model.bin", weights_only=True, mmap=True)
    ours = SingDiffusion.from_pretrained(tmp_path / "ours").module.network
    state = ours.state_dict()
    assert {key for key in theirs if not key.startswith("time_embedding.")} == set(state)
    assert sum(value.numel() for value in state.values()) == pytest.approx(831.7e6, abs=0.1e6)
    assert all(torch.equal(state[key], theirs[key]) for key in state)
    plain = TimeFreeUNet.from_pretrained(tmp_path / "authors", use_safetensors=False).eval()
    x_1, embeddings = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 768)
    with torch.no_grad():
        assert torch.equal(ours.predict(x_1, embeddings), plain.predict(x_1, embeddings))
    python(
        "import sys; from singdiffusion.published.convert import convert; convert(*sys.argv[1:])",
        tmp_path / "ours",
        tmp_path / "one.safetensors",
    )
    python(
        "import sys; from singdiffusion.published.convert import convert; convert(*sys.argv[1:])",
        tmp_path / "one.safetensors",
        tmp_path / "again",
    )
    with safe_open(tmp_path / "again" / "module" / "diffusion_pytorch_model.safetensors", "pt") as opened:
        assert all(torch.equal(opened.get_tensor(key), state[key]) for key in state)
