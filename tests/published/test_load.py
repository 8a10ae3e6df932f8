"""Public modules as they are published: folders and hub caches, pointers, variants, shards, latent spaces; every kind of damage."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from singdiffusion import SingDiffusion, SingDiffusionError
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import fingerprint
from singdiffusion.published import load_module, one_more_step
from singdiffusion.published.base import SD15, SD_LATENTS, SDXL_LATENTS, Base
from singdiffusion.published.places import Folder

from ..conftest import TEXT_WIDTH, make_config, make_module, make_text_encoder, needs_pickles
from ..plugin.painting import NEGATIVE, PROMPT, first_input, noise, true_alpha_sigma
from ..plugin.zoo import KEPT, SDXL_WIDTH, build, second_encoder
from .layouts import cached, unet_config, write_one_more_step, write_text, write_vae

B_SD, B_XL, L_XL = "h1t/oms_b_openclip_15_21", "h1t/oms_b_openclip_xl", "h1t/oms_l_mixclip_xl"
OPENCLIP, XL = "someone/openclip", "someone/sdxl"


@pytest.fixture
def hub(tmp_path):
    """Return a cache of the hub, without a connection."""
    return {"cache_dir": tmp_path / "hub", "local_files_only": True}


@pytest.fixture
def own_encoder(tokenizer):
    return make_text_encoder(tokenizer, seed=8)


def publish(tmp_path, hub, hub_id, tokenizer, encoder, **options):
    """Put a OneMoreStep module of this name into the cache, its text encoder into a repository beside it; return its network."""
    module = make_module(width=encoder.config.hidden_size)
    write_one_more_step(tmp_path / "oms", module, text=OPENCLIP, name=hub_id, **options)
    cached(hub["cache_dir"], hub_id, tmp_path / "oms")
    write_text(tmp_path / "text", tokenizer, encoder)
    cached(hub["cache_dir"], OPENCLIP, tmp_path / "text")
    return module


def publish_mixed(tmp_path, hub, tokenizer, first, second, hub_id=L_XL):
    """Put a module that reads both of SDXL's text encoders into the cache; return its network."""
    module = make_module(width=SDXL_WIDTH)
    write_one_more_step(tmp_path / "oms", module, text=XL, name=hub_id, sdxl=True)
    cached(hub["cache_dir"], hub_id, tmp_path / "oms")
    write_text(tmp_path / "xl", tokenizer, first)
    write_text(tmp_path / "xl", tokenizer, second, "_2")
    cached(hub["cache_dir"], XL, tmp_path / "xl")
    return module


def ids(tokenizer, *prompts):
    return tokenizer(prompts, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids


@torch.no_grad()
def one_more_step_mean(module, x_1, embeddings, w=1.0):
    """Return OneMoreStep's estimate of x_0 (its code: v = uncond + w (text - uncond), x_0 = -v at alpha = 0)."""
    v_uncond, v_text = (module.predict(x_1, each[None]) for each in embeddings)
    return -(v_uncond + w * (v_text - v_uncond))


# -- OneMoreStep ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_a_module_for_stable_diffusion(tmp_path, hub, tokenizer, own_encoder, make_pipe, variant):
    """The pipeline's text is wider than the module's, as Stable Diffusion 1.5's is narrower than OpenCLIP."""
    module = publish(tmp_path, hub, B_SD, tokenizer, own_encoder, variant=variant)
    sing = SingDiffusion.from_pretrained(B_SD, **hub)
    config = sing.module.config
    assert config.latents == SD_LATENTS
    assert (config.prediction, config.guidance_scale, config.normalise_guidance) == ("v_prediction", 1.0, False)
    assert config.text_fingerprint == fingerprint(own_encoder)
    assert sing.module.network.dtype == torch.float32
    pipe = make_pipe(width=24)
    sing.enable(pipe)
    network = module.half().float() if variant else module
    for options, w in (({}, 1.0), ({"guidance_scale": 2.0}, 2.0)):
        sing.enable(pipe, **options)
        got, timestep = first_input(pipe)
        with torch.no_grad():
            embeddings = own_encoder(ids(tokenizer, "", PROMPT))[0]
        alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
        mean = one_more_step_mean(network, noise(), embeddings, w)
        torch.testing.assert_close(got, alpha * mean + sigma * noise(), atol=1e-5, rtol=1e-5)


def test_a_module_for_sdxl(tmp_path, hub, tokenizer, own_encoder):
    module = publish(tmp_path, hub, B_XL, tokenizer, own_encoder)
    sing = SingDiffusion.from_pretrained(B_XL, **hub)
    assert sing.module.config.latents == SDXL_LATENTS
    pipe, _ = build("StableDiffusionXLPipeline", tokenizer)
    sing.enable(pipe)
    got, timestep = first_input(pipe, **KEPT)
    with torch.no_grad():
        embeddings = own_encoder(ids(tokenizer, "", PROMPT))[0]
    alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
    expected = alpha * one_more_step_mean(module, noise(), embeddings) + sigma * noise()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_a_module_with_both_text_encoders(tmp_path, hub, tokenizer, shared):
    """Next-to-last hidden states side by side; the pipeline's are used where they are the same ones."""
    pipe, _ = build("StableDiffusionXLPipeline", tokenizer)
    first, second = pipe.text_encoder, pipe.text_encoder_2
    if not shared:
        first, second = make_text_encoder(tokenizer, seed=8), second_encoder(tokenizer, layers=3)
    module = publish_mixed(tmp_path, hub, tokenizer, first, second)
    sing = SingDiffusion.from_pretrained(L_XL, **hub)
    assert sing.module.config.text_width == SDXL_WIDTH
    assert len(sing.module.text.text_encoders) == 2
    calls = []
    for encoder in sing.module.text.text_encoders:
        encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    sing.enable(pipe)
    calls.clear()
    got, timestep = first_input(pipe, **KEPT)
    assert bool(calls) is not shared
    with torch.no_grad():
        states = [
            each(ids(tokenizer, "", PROMPT), output_hidden_states=True).hidden_states[-2] for each in (first, second)
        ]
    alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
    expected = alpha * one_more_step_mean(module, noise(), torch.cat(states, -1)) + sigma * noise()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_both_text_encoders_are_saved_and_loaded(tmp_path, hub, tokenizer):
    publish_mixed(tmp_path, hub, tokenizer, make_text_encoder(tokenizer, seed=8), second_encoder(tokenizer, layers=3))
    module = load_module(L_XL, **hub)
    module.save_pretrained(tmp_path / "ours")
    again = SingModule.from_pretrained(tmp_path / "ours")
    assert again.config == module.config
    for one, other in zip(module.encode_prompt(PROMPT, NEGATIVE), again.encode_prompt(PROMPT, NEGATIVE), strict=True):
        torch.testing.assert_close(one, other)


def test_half_precision_prefers_the_fp16_files(tmp_path, hub, tokenizer, own_encoder):
    publish(tmp_path, hub, B_SD, tokenizer, own_encoder)
    folder = hub["cache_dir"] / f"models--{B_SD.replace('/', '--')}" / "snapshots"
    plain = next(folder.glob("*/oms_module/diffusion_pytorch_model.safetensors"))
    zeros = {key: torch.zeros_like(value).half() for key, value in load_file(plain).items()}
    save_file(zeros, plain.with_name("diffusion_pytorch_model.fp16.safetensors"))  # to see which one is read
    read = lambda **options: load_module(B_SD, **hub, **options).network.conv_in.weight  # noqa: E731
    assert read().abs().max() > 0
    assert read(torch_dtype=torch.float16).abs().max() == 0
    assert read(variant="fp16").abs().max() == 0
    assert read(variant="fp16").dtype == torch.float32
    with pytest.raises(SingDiffusionError, match="has no weights of the variant bf16"):
        load_module(B_SD, variant="bf16", **hub)


def test_shards_and_pickles_of_network_and_text_encoder(tmp_path, hub, tokenizer, own_encoder):
    module = publish(tmp_path, hub, B_SD, tokenizer, own_encoder)
    snapshots = list(hub["cache_dir"].glob("*/snapshots/*"))
    network = next(each for each in snapshots if (each / "oms_module").is_dir()) / "oms_module"
    text = next(each for each in snapshots if (each / "text_encoder").is_dir()) / "text_encoder"
    (network / "diffusion_pytorch_model.safetensors").unlink()
    config = (network / "config.json").read_text()
    module.save_pretrained(network, max_shard_size="40KB", variant="fp16")
    (network / "config.json").write_text(config)
    (text / "model.safetensors").unlink()
    own_encoder.save_pretrained(text, max_shard_size="5KB")
    assert len(list(text.glob("*.safetensors"))) > 1
    loaded = load_module(B_SD, **hub)
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in loaded.network.state_dict().items())
    assert loaded.config.text_fingerprint == fingerprint(own_encoder)
    sorted(network.glob("*.safetensors"))[1].unlink()
    with pytest.raises(SingDiffusionError, match="lacks diffusion_pytorch_model.*, which .*index.* names"):
        load_module(B_SD, **hub)


def test_a_local_folder_with_pointers(tmp_path, tokenizer, own_encoder):
    """To another folder: absolute, or relative to the module's own."""
    module = make_module()
    write_text(tmp_path / "openclip", tokenizer, own_encoder)
    for name in (str(tmp_path / "openclip"), "../openclip"):
        write_one_more_step(tmp_path / "oms", module, text=name, name=B_SD)
        assert load_module(tmp_path / "oms").config.text_fingerprint == fingerprint(own_encoder)
        shutil.rmtree(tmp_path / "oms")


def test_a_pointer_to_a_whole_clip_model(tmp_path, tokenizer, own_encoder):
    """Only its text encoder is read."""
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 8,
    }
    config = CLIPConfig(
        text_config=own_encoder.config.to_dict(), vision_config=vision | {"patch_size": 4}, projection_dim=8
    )
    whole = CLIPModel(config).eval()
    whole.save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    write_one_more_step(tmp_path / "oms", make_module(), text="../clip", name=B_SD)
    for part in ("text_encoder", "tokenizer"):
        (tmp_path / "oms" / f"oms_{part}" / "config.json").write_text('{"_name_or_path": "../clip"}')
    loaded = load_module(tmp_path / "oms")
    with torch.no_grad():
        expected = whole.text_model(ids(tokenizer, PROMPT)).last_hidden_state
    torch.testing.assert_close(loaded.text.encode([PROMPT]), expected)


@pytest.mark.parametrize(
    ("name", "latents"),
    [
        (B_SD, SD_LATENTS),
        (B_XL, SDXL_LATENTS),
        (L_XL, SDXL_LATENTS),
        ("h1t/oms_b_mixclip_xl", SDXL_LATENTS),
        ("oms-b-openclip-15-21", SD_LATENTS),
        ("my-sd1.5", SD_LATENTS),
        ("sdxl-oms", SDXL_LATENTS),
        ("sd21_oms", SD_LATENTS),
        ("excellent", None),
        ("oms", None),
        ("v1.5-xl", SDXL_LATENTS),
    ],
)
def test_the_latent_space_follows_from_the_name(tmp_path, name, latents):
    folder = tmp_path / "module"
    (folder / "oms_module").mkdir(parents=True)
    (folder / "oms_module" / "config.json").write_text(json.dumps({"_name_or_path": name}))
    if latents is not None:
        assert one_more_step.latents_of(Folder(folder), "", 1024) == latents
        return
    with pytest.raises(SingDiffusionError, match="the latent space of .* is unknown.*; pass a base") as caught:
        one_more_step.latents_of(Folder(folder), "", 1024)
    assert caught.value.setting == "base"
    assert one_more_step.latents_of(Folder(folder), "", 2048) == SDXL_LATENTS


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_-", max_size=12), st.sampled_from(["_xl", "-xl", "_sdxl", "-sdxl"]))
def test_every_name_that_ends_in_xl_is_sdxl(start, end):
    assert one_more_step.latents_by_name(start + end) == SDXL_LATENTS


def test_a_base_gives_the_latent_space(tmp_path, tokenizer, own_encoder):
    write_one_more_step(tmp_path / "renamed", make_module(), tokenizer, own_encoder, name="somewhere/else")
    with pytest.raises(SingDiffusionError, match="pass a base"):
        load_module(tmp_path / "renamed")
    write_vae(tmp_path / "base", scaling=0.5)
    write_text(tmp_path / "base", tokenizer, make_text_encoder(tokenizer, width=24))
    loaded = load_module(tmp_path / "renamed", base=tmp_path / "base")
    assert loaded.config.vae_scaling_factor == 0.5
    assert loaded.config.text_fingerprint == fingerprint(own_encoder)  # the base's has another width
    write_text(tmp_path / "base", tokenizer, make_text_encoder(tokenizer, seed=2))
    loaded = load_module(tmp_path / "renamed", base=tmp_path / "base")
    assert loaded.config.text_fingerprint == fingerprint(make_text_encoder(tokenizer, seed=2))


# -- SingDiffusion's authors ------------------------------------------------------------------------------------------


def write_authors(folder, width):
    module = make_module(width=width)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(unet_config(module)))
    save_file(module.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return module


def test_the_authors_folder_with_a_base(tmp_path, hub, tokenizer, make_pipe):
    module = write_authors(tmp_path / "SingDiffusion", TEXT_WIDTH)
    pipe = make_pipe(scaling=0.13025)
    pipe.save_pretrained(tmp_path / "base")
    by_folder = load_module(tmp_path / "SingDiffusion", base=tmp_path / "base")
    cached(hub["cache_dir"], "someone/base", tmp_path / "base")
    by_name = load_module(tmp_path / "SingDiffusion", base="someone/base", **hub)
    assert by_folder.config == by_name.config
    assert by_folder.config.vae_scaling_factor == 0.13025
    sing = SingDiffusion(by_name).enable(pipe)
    got, timestep = first_input(pipe)
    alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
    with torch.no_grad():
        y_neg, y_pos = module.predict(torch.cat([noise()] * 2), pipe.text_encoder(ids(tokenizer, "", PROMPT))[0]).chunk(
            2
        )
    expected = alpha * (y_neg + 7.5 * (y_pos - y_neg)) / 7.5 + sigma * noise()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert sing.module.network.dtype == torch.float32


def test_the_authors_text_encoder_is_that_of_stable_diffusion_1(tmp_path, hub, tokenizer):
    """Without a base it is looked for in the hub's cache."""
    write_authors(tmp_path / "SingDiffusion", 768)
    with pytest.raises(
        SingDiffusionError, match="trained with the text encoder of Stable Diffusion 1.5, and .*; pass a base"
    ):
        load_module(tmp_path / "SingDiffusion", **hub)
    assert load_module(tmp_path / "SingDiffusion", text_encoder=False, **hub).config.text_fingerprint is None
    encoder = make_text_encoder(tokenizer, width=768)
    write_vae(tmp_path / "sd15", scaling=0.18215)
    write_text(tmp_path / "sd15", tokenizer, encoder, variant="fp16")
    cached(hub["cache_dir"], SD15, tmp_path / "sd15")
    loaded = load_module(tmp_path / "SingDiffusion", **hub)
    assert loaded.config.latents == SD_LATENTS
    assert loaded.config.text_fingerprint == fingerprint(encoder)


# -- damage -----------------------------------------------------------------------------------------------------------


class _Evil:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (os.system, (f"touch {self.flag}",))


@needs_pickles
@pytest.mark.parametrize("part", ["oms_module", "oms_text_encoder"])
def test_a_pickle_that_would_run_code(tmp_path, tokenizer, own_encoder, part):
    write_one_more_step(tmp_path / "oms", make_module(), tokenizer, own_encoder, name=B_SD)
    flag, name = tmp_path / "it ran", "diffusion_pytorch_model" if part == "oms_module" else "pytorch_model"
    next((tmp_path / "oms" / part).glob("*.safetensors")).unlink()
    torch.save({"conv_in.weight": _Evil(flag)}, tmp_path / "oms" / part / f"{name}.bin")
    with pytest.raises(SingDiffusionError, match="is not read because it could run code"):
        load_module(tmp_path / "oms")
    assert not flag.exists()


def _point(part, name):
    return lambda folder: (folder / part / "config.json").write_text(json.dumps({"_name_or_path": name}))


def _remove(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (_point("oms_text_encoder", "nobody/nothing"), "the text encoder of .* nobody/nothing is not here"),
        (_point("oms_tokenizer", "nobody/nothing"), "the tokenizer of .* nobody/nothing is not here"),
        (_point("oms_text_encoder", ""), "oms_text_encoder/config.json names no _name_or_path"),
        (_point("oms_text_encoder", "../wide"), "takes text of width 16, and the text encoder in .*wide has width 24"),
        (_point("oms_text_encoder", "../empty"), "empty has no weights; it needs one of model.safetensors"),
        (_point("oms_tokenizer", "../empty"), "there is no tokenizer in .*empty"),
        (_remove("oms_text_encoder/config.json"), "oms_text_encoder has no config.json"),
        (_remove("oms_module/diffusion_pytorch_model.safetensors"), "is not here|has no weights"),
        (_remove("oms_module/config.json"), "config.json cannot be read: No such file"),
    ],
)
def test_damaged_layouts(tmp_path, tokenizer, own_encoder, damage, line):
    wide = make_text_encoder(tokenizer, width=24)
    wide.save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")
    (tmp_path / "empty").mkdir()
    write_text(tmp_path / "good", tokenizer, own_encoder)
    write_one_more_step(tmp_path / "oms_15_21", make_module(), text="../good", name="nobody/nothing_15_21")
    damage(tmp_path / "oms_15_21")
    with pytest.raises(SingDiffusionError, match=line) as caught:
        load_module(tmp_path / "oms_15_21")
    assert "\n" not in str(caught.value)


def test_a_repository_that_is_no_module(tmp_path, hub, make_pipe, own_encoder):
    make_pipe().save_pretrained(tmp_path / "model")
    cached(hub["cache_dir"], "someone/model", tmp_path / "model")
    with pytest.raises(SingDiffusionError, match="someone/model is not a module; it is a whole model"):
        load_module("someone/model", **hub)
    own_encoder.save_pretrained(tmp_path / "text")
    cached(hub["cache_dir"], "someone/text", tmp_path / "text")
    with pytest.raises(SingDiffusionError, match="someone/text has no weights|is not a module"):
        load_module("someone/text", **hub)


def test_a_module_for_another_latent_space(tmp_path, hub, tokenizer, own_encoder, pipe):
    publish(tmp_path, hub, B_XL, tokenizer, own_encoder)
    sing = SingDiffusion.from_pretrained(B_XL, **hub)
    with pytest.raises(SingDiffusionError, match="VAE scaling factor 0.13025, the pipeline's is 0.18215"):
        sing.enable(pipe)


def test_ours_in_the_cache_with_a_subfolder(tmp_path, hub, tokenizer, own_encoder):
    text = {"text_fingerprint": fingerprint(own_encoder)}
    SingModule(make_module(), make_config(**text)).save_pretrained(tmp_path / "repository" / "deep")
    cached(hub["cache_dir"], "someone/ours", tmp_path / "repository")
    assert load_module("someone/ours", subfolder="deep", **hub).config.text_fingerprint == fingerprint(own_encoder)
    with pytest.raises(SingDiffusionError, match="someone/ours is not a module"):
        load_module("someone/ours", **hub)


# -- full size --------------------------------------------------------------------------------------------------------

MAKE = """
import json, sys, torch
from pathlib import Path
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
folder = Path(sys.argv[1]) / "oms_module"; folder.mkdir(parents=True)
config = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
with torch.device("meta"):
    unet = UNet2DConditionModel(**config)
weights = {
    key: torch.zeros(value.shape, dtype=torch.float16) + 0.01
    for key, value in unet.state_dict().items() if ".time_emb_proj." not in key and not key.startswith("time_embedding.")
}
pointer = {"_class_name": "UNet2DConditionWoCTModel", "_name_or_path": "someone/oms_15_21", "subfolder": "oms_module"}
(folder / "config.json").write_text(json.dumps(config | pointer))
save_file(weights, folder / "diffusion_pytorch_model.fp16.safetensors")
"""

LOAD = """
import resource, sys, time, torch
import singdiffusion.modules.unet
from singdiffusion.published import load_module
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, started = peak(), time.monotonic()
module = load_module(sys.argv[1], torch_dtype=torch.float16, text_encoder=False)
seconds = time.monotonic() - started
print(sum(p.numel() * p.element_size() for p in module.network.parameters()), peak() - before, seconds)
print(module.network.dtype, module.config.prediction)
"""


@pytest.mark.slow
def test_full_size(tmp_path):
    """SD-1.5's U-Net in fp16 as OneMoreStep publishes it: memory grows by at most 1.3 times its weights."""

    def python(code):
        command = [sys.executable, "-c", code, str(tmp_path / "oms")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    python(MAKE)
    figures, kind = python(LOAD)
    size, memory, seconds = map(float, figures.split())
    print(f"{size / 1e9:.2f} GB of weights, memory {memory / size:.2f} times that, {seconds:.0f} s")
    assert size == pytest.approx(2 * 831.65e6, rel=1e-3)
    assert memory < 1.3 * size
    assert kind == "torch.float16 v_prediction"


# -- what newcomers type ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cross_attention_dim", -1),
        ("cross_attention_dim", 0),
        ("cross_attention_dim", "wide"),
        ("sample_size", 0),
        ("sample_size", -1),
        ("in_channels", 5),
    ],
)
def test_configurations_with_impossible_values(tmp_path, key, value):
    write_authors(tmp_path / "SingDiffusion", TEXT_WIDTH)
    file = tmp_path / "SingDiffusion" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(SingDiffusionError) as caught:
        load_module(tmp_path / "SingDiffusion", text_encoder=False)
    assert "\n" not in str(caught.value)


@given(st.sampled_from(["scaling_factor", "shift_factor", "latent_channels"]), st.sampled_from(
    [-1, 0, float("inf"), float("nan"), "abc", [16], True, None, 1e300, 4.5, {}]
))  # fmt: skip
def test_a_base_with_an_impossible_latent_space(key, value):
    """Either a latent space, or one line that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vae").mkdir()
        config = {"latent_channels": 4, "scaling_factor": 0.18215} | {key: value}
        (Path(folder) / "vae" / "config.json").write_text(json.dumps(config))
        try:
            found = Base.named(folder).latents()
        except SingDiffusionError as error:
            found = str(error)
    if isinstance(found, str):
        assert "/vae/config.json" in found
        assert key in found or "NaN" in found or "must be a finite number" in found
    else:
        assert found.channels > 0 < found.scaling


def test_a_base_that_contradicts_the_module(tmp_path, tokenizer, own_encoder):
    write_one_more_step(tmp_path / "oms_15_21", make_module(), tokenizer, own_encoder)
    write_vae(tmp_path / "sdxl", scaling=0.13025)
    write_text(tmp_path / "sdxl", tokenizer, own_encoder)
    SingModule(make_module(), make_config()).save_pretrained(tmp_path / "ours")
    for source in ("oms_15_21", "ours"):
        with pytest.raises(SingDiffusionError, match="VAE factor 0.18215, and the base has 4 with 0.13025"):
            load_module(tmp_path / source, base=tmp_path / "sdxl")


def test_the_inner_folder_of_a_module(tmp_path):
    SingModule(make_module(), make_config(prediction="v_prediction")).save_pretrained(tmp_path / "ours")
    with pytest.raises(SingDiffusionError, match="is the network of a module; name the folder above it"):
        load_module(tmp_path / "ours" / "module")


def test_options_that_do_not_apply(tmp_path, sing_folder):
    for source, options, line in (
        ("tiny", {"variant": "fp16"}, "tiny has no variant"),
        ("tiny", {"base": "tiny"}, "tiny has no base"),
        ("tiny", {"subfolder": "x"}, "tiny has no subfolder"),
        ("", {}, "the module has an empty name"),
        (" ", {}, "the module has an empty name"),
        (sing_folder, {"torch_dtype": "float16"}, "torch_dtype must be a torch.dtype"),
        (sing_folder, {"base": ""}, "the base has an empty name"),
        (sing_folder, {"base": "tiny-unet"}, "tiny-unet is a module; its base is tiny"),
        ("x" * 5000, {}, "is not here"),
        ("someone/else", {"revision": "v9"}, "its revision v9 is not in the cache, and HF_HUB_OFFLINE is set"),
    ):
        with pytest.raises(SingDiffusionError, match=line):
            load_module(source, **options)
    with pytest.raises(TypeError, match="unknown option 'varaint'"):
        load_module(sing_folder, varaint="fp16")
    assert load_module(sing_folder, subfolder=None).kind == "unet"


def test_saved_files_are_readable_by_others(sing_folder):
    modes = {file.stat().st_mode & 0o777 for file in sing_folder.rglob("*") if file.is_file()}
    assert len(modes) == 1, "weights have the permissions of the other files"


def test_what_is_no_pipeline():
    for wrong in (None, 5, "pipe", SingDiffusion):
        with pytest.raises(SingDiffusionError, match="for_pipeline takes a diffusers pipeline, not"):
            SingDiffusion.for_pipeline(wrong)
