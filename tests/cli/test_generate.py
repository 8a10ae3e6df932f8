"""``singdiffusion generate`` as a real process, with a model of random weights in a folder."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from singdiffusion import SingDiffusionError
from singdiffusion.cli.generate import _Sheet
from singdiffusion.modules import SingModule
from singdiffusion.painting.metadata import PictureSettings
from singdiffusion.painting.png import png, read_settings

from ..commands import ENV, Refusals, cli, refused, start
from ..conftest import make_config, make_module
from ..painting.single_files import original_weights

ParserManager = pytest.importorskip("sd_parsers").ParserManager


def settings_in(file):
    """The settings that a PNG file carries."""
    with Image.open(file) as picture:
        return read_settings(picture)


@pytest.fixture
def model(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_help_is_a_table_of_contents_and_quick():
    out, _ = cli("--help")
    assert "demo" in out
    assert "generate" in out
    code = "import sys; import singdiffusion.cli.demo, singdiffusion.cli.generate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=ENV).returncode == 0, "help must not wait for torch"
    for command in ("demo", "generate"):
        assert re.search(rf"Example:\s+singdiffusion {command}", cli(command, "--help")[0])


def test_compare_writes_three_files_with_their_settings(model, sing_folder, tmp_path):
    out = tmp_path / "pictures"
    common = ("--model", model, "--module", sing_folder, "--steps", 2, "--out", out)
    printed, _ = cli("generate", "A dark room, ünlit!", *common, "--compare", "--seed", 7, "--json", out / "f.json")
    names = sorted(file.name for file in out.iterdir())
    assert names == [
        "a-dark-room-ünlit-7-compare.png",
        "a-dark-room-ünlit-7-with_sing.png",
        "a-dark-room-ünlit-7-without.png",
        "f.json",
    ]
    assert [line.rsplit("/", 1)[1] for line in printed.splitlines()] == [names[1], names[2], names[0]]
    compare, on, off = (settings_in(out / name) for name in names[:3])
    assert (on["prompt"], on["seed"], on["num_inference_steps"]) == ("A dark room, ünlit!", 7, 2)
    assert (on["model"], on["module"], on["first_step"]) == (str(model), str(sing_folder), {"method": "mean"})
    assert (on["scheduler"], on["height"], on["width"]) == ("DDIMScheduler", 16, 16)
    assert (off["singdiffusion"], off["module"], off["first_step"]) == ("off", None, None)
    assert compare == on | {"singdiffusion": "compare"}
    figures = json.loads((out / "f.json").read_text())
    assert [row["singdiffusion"] for row in figures["pictures"]] == ["on", "off", "compare"]
    assert [row["mean_luma"] is None for row in figures["pictures"]] == [False, False, True]
    assert figures["settings"] == {k: v for k, v in on.items() if k not in ("prompt", "seed", "singdiffusion")}


def test_artists_tools_read_the_settings(model, tmp_path):
    prompt = 'a "dark" room, unlit\nSteps: 3, Seed: 1, Sampler: x'
    cli(
        "generate", prompt, "--negative", "grey, dull", "--model", model, "--module", "none", "--steps", 2, "--seed", 5,
        "--guidance", 4, "--scheduler", "euler-ancestral", "--out", tmp_path / "o",
    )  # fmt: skip
    (file,) = (tmp_path / "o").iterdir()
    found = ParserManager().parse(file)
    (sampler,) = found.samplers
    assert (found.full_prompt, found.full_negative_prompt) == (prompt, "grey, dull")
    assert sampler.name == "Euler a"
    assert sampler.parameters == {"steps": "2", "cfg_scale": "4", "seed": "5"}
    assert sampler.model.name == "model"


def test_the_first_line_names_device_and_precision(model, tmp_path):
    common = ("--model", model, "--module", "none", "--steps", 1, "--device", "cpu", "--out", tmp_path / "o")
    for dtype, precision in (("auto", "float32"), ("bfloat16", "bfloat16")):
        _, err = cli("generate", "a", "--dtype", dtype, *common)
        assert err.splitlines()[0] == f"{model} on cpu, {precision}"
        assert settings_in(tmp_path / "o" / "a-0.png")["torch_dtype"] == precision


def test_the_same_picture_as_the_library_makes(model, pipe, sing, sing_folder, tmp_path):
    cli(
        "generate", "a room", "--model", model, "--module", sing_folder, "--steps", 3, "--out", tmp_path / "o",
        "--scheduler", "euler", "--guidance", 4, "--negative", "grey", "--seed", 3, "--height", 24, "--width", 32,
    )  # fmt: skip
    from diffusers import EulerDiscreteScheduler

    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    sing.enable(pipe)
    expected = pipe(
        "a room", num_inference_steps=3, guidance_scale=4.0, negative_prompt="grey", height=24, width=32,
        generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "o" / "a-room-3.png")), np.asarray(expected))


def test_several_prompts_and_none_as_module(model, tmp_path):
    common = ("--model", model, "--module", "none", "--steps", 1, "--out", tmp_path / "o")
    cli("generate", "one", "two", "--count", 2, "--dtype", "bfloat16", *common)
    names = sorted(file.name for file in (tmp_path / "o").iterdir())
    assert names == ["one-0.png", "one-1.png", "two-0.png", "two-1.png"]
    assert settings_in(tmp_path / "o" / "one-0.png")["singdiffusion"] == "off"


@pytest.mark.slow
def test_a_flat_color_or_another_prompt_at_the_first_step(model, sing_folder, tmp_path):
    common = ("--model", model, "--steps", 1, "--out", tmp_path / "o")
    cli("generate", "one", "--color", "#102030", *common)
    cli("generate", "two", "--module", sing_folder, "--first-prompt", "dark", "--first-guidance", 2, *common)
    one, two = (settings_in(tmp_path / "o" / name) for name in ("one-0.png", "two-0.png"))
    assert one["singdiffusion"] == two["singdiffusion"] == "on"
    assert (one["module"], one["first_step"]) == (None, {"color": "#102030"})
    assert two["first_step"] == {"prompt": "dark", "guidance_scale": 2.0, "method": "mean"}


@pytest.mark.slow
def test_a_single_file_is_the_model_it_was_made_of(pipe, model, sing_folder, tmp_path):
    """A single file in the original key layout, as community models are shared."""
    save_file(original_weights(pipe), tmp_path / "one.safetensors")
    common = ("--module", sing_folder, "--steps", 2)
    cli("generate", "a room", "--model", model, *common, "--out", tmp_path / "a")
    cli(
        "generate", "a room", "--model", tmp_path / "one.safetensors", "--model-config", model, *common, "--out", tmp_path / "b"
    )  # fmt: skip
    a, b = (np.asarray(Image.open(tmp_path / folder / "a-room-0.png")) for folder in "ab")
    np.testing.assert_array_equal(a, b)


BAD_OPTIONS = [
    (["--scheduler", "magic"], "unknown scheduler 'magic'; known: ddim", 1),
    (["--scheduler", "pndm", "--steps", "3"], "PNDMScheduler cannot do 3 steps; try 4 (--steps)", 1),
    (["--height", "15"], "height must be a positive multiple of 4 for this model, not 15; try 16", 1),
    (["--width", "-8"], "width must be a positive multiple of 4", 1),
    (["--guidance", "nan"], "--guidance must be a finite number", 1),
    (["--dtype", "int3"], "unknown dtype 'int3'; known: auto, float32, bfloat16, float16 (--dtype)", 1),
    (["--device", "warp9"], "the device 'warp9' is not available here; try cpu (--device)", 1),
    (["--module", "nobody/nothing"], "the module nobody/nothing is not here: there is no such folder", 1),
    (["--module", "none", "--compare"], "--compare needs a module", 1),
    (
        ["--module", "none", "--first-prompt", "dark"],
        "--first-prompt, --first-negative and --first-guidance need a module",
        1,
    ),
    (["--color", "#12"], "'#12' is", 1),
    (["--color", "red", "--first-prompt", "dark"], "a color or a prompt for the first step", 1),
    (["--first-negative", "dark"], "needs a prompt", 1),
    (["--first-guidance", "inf"], "guidance_scale must be a finite number", 1),
    (["--negative", "\udcff"], "the text is not valid UTF-8: it holds half of a character, '\\udcff' (--negative)", 1),
    (["--first-prompt", "a\udcff"], "half of a character, '\\udcff' (--first-prompt)", 1),
    (["\udcff"], "a prompt is not valid UTF-8", 1),
    (["\u200b"], "a prompt is empty", 1),
    (["--steps", "0"], "--steps", 2),
    (["--count", "0"], "--count", 2),
    (["--seed", "-1"], "--seed", 2),
    (["--seed", "x"], "--seed", 2),
    (["--brightness", "9"], "No such option", 2),
]


@pytest.mark.slow
def test_bad_options(model, sing_folder, tmp_path):
    common = ["--model", model, "--module", sing_folder, "--steps", "1", "--out", tmp_path / "o"]
    with Refusals() as all_of_them:
        for options, match, status in BAD_OPTIONS:
            all_of_them.refused("generate", "a", *common, *options, match=match, status=status)
        # on the embedded model, whose VAE is larger
        large = ("--height", 16384, "--width", 16384, "--out", tmp_path / "o")
        all_of_them.refused("generate", "a", *large, match="a picture of 16384 x 16384 pixels needs about")
    assert not (tmp_path / "o").exists(), "what is refused leaves nothing"


def test_files_of_others_are_not_replaced(tmp_path):
    """A picture of an earlier run carries its settings and is replaced; anything else of its name is refused before painting."""
    settings: Any = PictureSettings("a", 0)
    sheet = _Sheet(None, None, tmp_path, {"a": "a"}, settings, None, {})
    picture = Image.new("RGB", (9, 9))
    (tmp_path / "a-0.png").write_bytes(png(picture, settings))
    sheet.require_free(0, 9, compare=True)
    sheet.require_free(0, 9, compare=False)
    for theirs in (png(picture), b"", b"text"):
        (tmp_path / "a-1.png").write_bytes(theirs)
        with pytest.raises(
            SingDiffusionError, match="a-1.png is not a picture of an earlier run and would be replaced; move it"
        ):
            sheet.require_free(0, 9, compare=False)
    sheet.require_free(0, 1, compare=False)


@pytest.mark.slow
def test_bad_models_modules_and_folders(model, sing_folder, tmp_path):
    out = ("--steps", 1, "--out", tmp_path / "o")
    none = ("--module", "none")
    SingModule(make_module(channels=8), make_config(latent_channels=8)).save_pretrained(tmp_path / "eight")
    SingModule(make_module(width=24), make_config(text_width=24)).save_pretrained(tmp_path / "wide")
    (tmp_path / "file").write_text("")
    (tmp_path / "model.ckpt").write_bytes(b"PK")
    (tmp_path / "model.safetensors").write_bytes(b"PK")
    damaged = shutil.copytree(model, tmp_path / "damaged")
    weights = damaged / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    not_here = "is not here: there is no such folder"
    too_new = "h1t/oms_b_openclip_15_21 would fit, but the module h1t/oms_b_openclip_15_21 is not here"
    with Refusals() as all_of_them:

        def refused(model, *options, match):
            all_of_them.refused("generate", "a", "--model", model, *out, *options, match=match)

        refused(tmp_path, *none, match="has no model_index.json")
        refused("nobody/nothing", *none, match=f"the model nobody/nothing {not_here}")
        refused(model, "--module", model, match="is not a module; it is a whole model")
        refused(model, "--module", tmp_path / "eight", match="latents of 8 channels")
        refused(model, "--module", tmp_path / "wide", match="width 24")
        refused(model, *none, " ", match="a prompt is empty")
        refused(model, *none, "--out", tmp_path / "file", match="cannot write into the folder")
        refused(model, match=too_new)
        refused(model, *none, "--model-config", model, match="is not a single file")
        refused(tmp_path / "model.ckpt", *none, match="is not a .safetensors file")
        refused(tmp_path / "model.safetensors", *none, "--model-config", model, match="cannot be read")
        refused(model, *none, "--json", tmp_path, match="is a folder; name a file")
        refused(damaged, "--module", sing_folder, match="cannot be read")
        refused("nope", match="there is no model 'nope'")
        refused("nope", *none, match="there is no model 'nope'")
        all_of_them.refused("generate", "a", "--seed", 10**30, *out, match="--seed", status=2)
        all_of_them.refused("demo", "--seed", 2**64, "--out", tmp_path / "d", match="--seed", status=2)
        all_of_them.refused("generate", "--out", "x", match="Missing argument", status=2)
        all_of_them.refused("generate", "a", match="Missing option", status=2)
        all_of_them.refused("paint", match="No such command", status=2)


def test_wrong_usage():
    refused("generate", "a", match="Missing option", status=2)


def test_ctrl_c_leaves_whole_files(model, sing_folder, tmp_path):
    out = tmp_path / "o"
    process = start(
        "generate", "a", "--count", 10_000, "--steps", 2, "--model", model, "--module", sing_folder, "--out", out
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in err
    files = list(out.iterdir())
    assert len(files) >= 2
    for file in files:
        assert file.suffix == ".png"
        Image.open(file).load()


@pytest.mark.slow
def test_a_controlnet_follows_a_picture(tmp_path):
    from singdiffusion import tiny

    hint = tmp_path / "hint.png"
    tiny.hints()["bolt"].save(hint)
    common = ("--steps", 1, "--out", tmp_path / "o")
    cli("generate", "a logo", "--model", "tiny-controlnet", "--control", hint, "--compare", *common)
    on = Image.open(tmp_path / "o" / "a-logo-0-with_sing.png")
    assert read_settings(on)["control"] == "hint.png"
    text = tmp_path / "text.png"
    text.write_text("no picture")
    follow = "this model has a ControlNet and needs a picture that it follows (--control)"
    with Refusals() as all_of_them:
        all_of_them.refused("generate", "a", "--model", "tiny-controlnet", *common, match=follow)
        all_of_them.refused("generate", "a", "--control", hint, *common, match="a StableDiffusionPipeline has none")
        control = ("--model", "tiny-controlnet", "--control", text)
        all_of_them.refused("generate", "a", *control, *common, match="cannot be read as a picture")


def test_no_two_pictures_have_the_same_name(model, tmp_path):
    common = ("--model", model, "--module", "none", "--steps", 1, "--out", tmp_path / "o")
    cli("generate", "日本語", "a room!", "A room?", "a room", "a room", "!!!", "x " * 40, *common)
    names = sorted(file.name for file in (tmp_path / "o").iterdir())
    long = "-".join(["x"] * 30)
    assert names == sorted(
        ["日本語-0.png", "a-room-0.png", "a-room-b-0.png", "a-room-c-0.png", "picture-0.png", f"{long}-0.png"]
    )


def test_one_side_is_enough(model, tmp_path):
    cli("generate", "a", "--model", model, "--module", "none", "--steps", 1, "--height", 32, "--out", tmp_path / "o")
    picture = Image.open(tmp_path / "o" / "a-0.png")
    assert picture.size == (16, 32)
    assert (read_settings(picture)["height"], read_settings(picture)["width"]) == (32, 16)


@pytest.mark.slow
def test_nothing_is_the_table_of_contents():
    out, err = cli()
    assert "encode" in out
    assert err == ""
