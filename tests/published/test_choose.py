"""The module that fits a pipeline: the user's own, then the embedded one, then a public one; one line on each."""

import json
import shutil

import pytest
import torch

from singdiffusion import SingDiffusion, SingDiffusionError, tiny
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import PromptEncoder, fingerprint
from singdiffusion.published.choose import home
from singdiffusion.published.public import PUBLIC

from ..commands import cli, refused
from ..conftest import make_config, make_module, make_text_encoder
from ..plugin.zoo import build, build_untouched
from .layouts import cached, unet_config, write_one_more_step, write_text
from .test_load import B_SD, B_XL, OPENCLIP


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of the user's own modules."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("SINGDIFFUSION_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def chosen(pipe, **hub):
    """Return what was loaded, and the lines about it."""
    lines = []
    return SingDiffusion.for_pipeline(pipe, report=lines.append, **hub), lines


def publish_all(cache, tmp_path, tokenizer):
    """Put the public modules of both latent spaces into a cache."""
    for hub_id in (B_SD, B_XL):
        write_one_more_step(tmp_path / "oms", make_module(), text=OPENCLIP, name=hub_id)
        cached(cache, hub_id, tmp_path / "oms")
    write_text(tmp_path / "text", tokenizer, make_text_encoder(tokenizer, seed=8))
    cached(cache, OPENCLIP, tmp_path / "text")


def test_public_modules_by_latent_space(own, tmp_path, tokenizer):
    hub = {"cache_dir": tmp_path / "hub", "local_files_only": True}
    publish_all(tmp_path / "hub", tmp_path, tokenizer)
    for name, hub_id in (
        ("StableDiffusionPipeline", B_SD),
        ("PixArtAlphaPipeline", B_SD),
        ("StableDiffusionXLPipeline", B_XL),
    ):
        pipe, _ = build(name, tokenizer)
        sing, lines = chosen(pipe, **hub)
        assert len(lines) == 1
        assert lines[0].startswith(f"module {hub_id} (OneMoreStep, for ")
        assert lines[0].endswith(f", from the hub's cache; terms: https://huggingface.co/{hub_id}")
        sing.enable(pipe).disable()


def test_the_embedded_models(own):
    for model in ("tiny", "tiny-community"):
        sing, lines = chosen(tiny.load_pipeline(model=model))
        assert lines == ["module tiny, which comes with this package"]
        assert sing.module.predicts_covariance


def test_the_users_own_come_first(own, pipe, tokenizer):
    """One that shares the text, or one with a text encoder of its own; those that do not fit are left out."""
    encoder = make_text_encoder(tokenizer, seed=8)
    SingModule(make_module(), make_config(vae_scaling_factor=0.5)).save_pretrained(own / "a other latents")
    SingModule(make_module(), make_config(text_fingerprint=fingerprint(encoder))).save_pretrained(own / "b other text")
    text = PromptEncoder([tokenizer], [encoder])
    SingModule(make_module(), make_config(text_fingerprint=fingerprint(encoder), name="mine"), text).save_pretrained(
        own / "c"
    )
    (own / "damaged").mkdir()
    (own / "note.txt").write_text("not a folder")
    sing, lines = chosen(pipe)
    assert sing.module.config.name == "mine"
    assert lines == [f"module c (this package), one of your own in {own}"]
    shutil.rmtree(own / "c")
    SingModule(make_module(), make_config(text_fingerprint=fingerprint(pipe.text_encoder))).save_pretrained(own / "z")
    _, lines = chosen(pipe)
    assert lines[0].startswith(f"damaged in {own} is passed over: ")
    assert lines[1] == f"module z (this package), one of your own in {own}"


def test_published_layouts_among_the_users_own(own, pipe, tokenizer):
    write_one_more_step(own / "oms_15_21", make_module(), tokenizer, make_text_encoder(tokenizer, seed=8))
    _, lines = chosen(pipe)
    assert lines == [f"module oms_15_21 (OneMoreStep), one of your own in {own}"]


def test_a_home_that_is_not_there(pipe, monkeypatch, tmp_path):
    monkeypatch.setenv("SINGDIFFUSION_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(SingDiffusionError, match="SINGDIFFUSION_HOME is .*nowhere, which is no folder"):
        SingDiffusion.for_pipeline(pipe)
    monkeypatch.delenv("SINGDIFFUSION_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home().name == "singdiffusion"


def test_own_modules_that_cannot_be_had_are_passed_over(own, pipe, tokenizer, tmp_path):
    """A damaged configuration, and a text encoder that is not here: the next module counts."""
    module = make_module(width=768)
    module.save_pretrained(own / "authors")
    (own / "authors" / "config.json").write_text(json.dumps(unet_config(module)))
    (own / "broken").mkdir()
    (own / "broken" / "config.json").write_text(json.dumps(unet_config(module) | {"sample_size": 0}))
    SingModule(make_module(), make_config(text_fingerprint=fingerprint(pipe.text_encoder))).save_pretrained(own / "z")
    _, lines = chosen(pipe, cache_dir=tmp_path / "empty", local_files_only=True)
    assert lines[0].startswith(f"authors in {own} is passed over: ")
    assert "text encoder of Stable Diffusion 1.5" in lines[0]
    assert lines[1].startswith(f"broken in {own} is passed over: ")
    assert lines[2].startswith("module z ")


def test_a_home_that_is_a_module_itself(pipe, monkeypatch, tmp_path):
    SingModule(make_module(), make_config()).save_pretrained(tmp_path / "mine")
    monkeypatch.setenv("SINGDIFFUSION_HOME", str(tmp_path / "mine"))
    with pytest.raises(SingDiffusionError, match="which is a module; name the folder that holds your modules"):
        SingDiffusion.for_pipeline(pipe)


def test_what_has_no_module(own, make_pipe, tmp_path):
    with pytest.raises(
        SingDiffusionError, match="no module is known for latents of 4 channels with VAE factor 0.3; name another"
    ):
        SingDiffusion.for_pipeline(make_pipe(scaling=0.3))
    offline = {"cache_dir": tmp_path / "empty", "local_files_only": True}
    line = f"{B_SD} would fit, but the module {B_SD} is not here: .*; name another module, start from a flat color, or train"
    with pytest.raises(SingDiffusionError, match=line):
        SingDiffusion.for_pipeline(make_pipe(), **offline)
    pipe = make_pipe()
    pipe.vae = None
    with pytest.raises(SingDiffusionError, match="has no VAE, by which its latent space is known"):
        SingDiffusion.for_pipeline(pipe)


def test_a_pipeline_that_stays_as_it_is(own, tokenizer):
    pipe = build_untouched("StableDiffusionImg2ImgPipeline", tokenizer)
    sing, lines = chosen(pipe)
    assert sing.module is None
    assert lines == []
    with pytest.warns(UserWarning, match="leaves StableDiffusionImg2ImgPipeline as it is"):
        sing.enable(pipe)


def test_the_module_has_the_pipelines_precision(own):
    pipe = tiny.load_pipeline(torch.bfloat16)
    assert SingDiffusion.for_pipeline(pipe).module.network.mean_out[1].weight.dtype == torch.bfloat16
    assert (
        SingDiffusion.for_pipeline(pipe, torch_dtype=torch.float32).module.network.mean_out[1].weight.dtype
        == torch.float32
    )


def test_the_table_has_one_module_per_latent_space_first():
    assert [each.hub_id for each in PUBLIC] == [
        "h1t/oms_b_openclip_15_21",
        "h1t/oms_b_openclip_xl",
        "h1t/oms_l_mixclip_xl",
    ]


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, make_pipe, tokenizer):
    """A Stable Diffusion and an SDXL as folders, and a hub's cache with the public modules."""
    make_pipe(width=24).save_pretrained(tmp_path / "sd15")
    build("StableDiffusionXLPipeline", tokenizer)[0].save_pretrained(tmp_path / "sdxl")
    publish_all(tmp_path / "hub", tmp_path, tokenizer)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("model", "hub_id"), [("sd15", B_SD), ("sdxl", B_XL)])
def test_generate_finds_its_module_by_itself(folders, model, hub_id):
    """Offline, from the hub's cache, in one command."""
    size = () if model == "sd15" else ("--height", 16, "--width", 16)
    out, err = cli(
        "generate", "a dark room", "--model", folders / model, "--steps", 2, "--out", folders / "out", "--json",
        folders / "j.json", "--compare", *size, HF_HUB_CACHE=str(folders / "hub"),
    )  # fmt: skip
    assert [line for line in err.splitlines() if line.startswith("module ")] == [
        f"module {hub_id} (OneMoreStep, for {'SDXL' if model == 'sdxl' else 'Stable Diffusion 1 and 2'}), from the hub's cache; "
        f"terms: https://huggingface.co/{hub_id}"
    ]
    found = json.loads((folders / "j.json").read_text())
    assert found["settings"]["module"] == hub_id
    assert len(out.splitlines()) == 3
    with_sing, without = (row["mean_luma"] for row in found["pictures"][:2])
    assert with_sing != without


@pytest.mark.slow
def test_generate_without_a_module_in_one_line(folders):
    refused(
        "generate",
        "a",
        "--model",
        folders / "sd15",
        "--out",
        folders / "out",
        match="flat color, or train a module (--module)",
    )


@pytest.mark.slow
def test_evaluate_finds_its_module_by_itself(folders):
    cli(
        "evaluate", "brightness", "--model", folders / "sd15", "--pictures", 1, "--steps", 2, "--out", folders / "out", "--json",
        folders / "j.json", HF_HUB_CACHE=str(folders / "hub"),
    )  # fmt: skip
    assert json.loads((folders / "j.json").read_text())["settings"]["modules"] == [B_SD]


@pytest.mark.parametrize("name", ["module/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_own_modules_with_truncated_weights_are_passed_over(own, pipe, tokenizer, name):
    encoder = make_text_encoder(tokenizer, seed=8)
    text = PromptEncoder([tokenizer], [encoder])
    SingModule(make_module(), make_config(text_fingerprint=fingerprint(encoder)), text).save_pretrained(own / "a")
    SingModule(make_module(), make_config(text_fingerprint=fingerprint(pipe.text_encoder))).save_pretrained(own / "z")
    (own / "a" / name).write_bytes((own / "a" / name).read_bytes()[:-100])
    _, lines = chosen(pipe)
    assert lines[0].startswith(f"a in {own} is passed over: the weights in {own / 'a' / name} cannot be read")
    assert lines[1].startswith("module z ")
