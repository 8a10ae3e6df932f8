"""PNG files carry their settings, as JSON and as sd-parsers reads them."""

import io
import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from singdiffusion import SingDiffusionError
from singdiffusion.painting.metadata import PictureSettings, settings_from
from singdiffusion.painting.parameters import parameters
from singdiffusion.painting.png import is_ours, png, read_settings
from singdiffusion.painting.scheduler_names import SCHEDULERS, sampler_name

ParserManager = pytest.importorskip("sd_parsers").ParserManager

IMAGE = Image.fromarray(np.arange(24 * 16 * 3, dtype=np.uint8).reshape(24, 16, 3))
SETTINGS = PictureSettings(
    prompt="a dark room",
    seed=7,
    negative_prompt="grey",
    num_inference_steps=20,
    guidance_scale=7.5,
    scheduler="EulerAncestralDiscreteScheduler",
    height=24,
    width=16,
    model="stable-diffusion-v1-5/stable-diffusion-v1-5",
    module="folder/tiny",
    torch_dtype="float32",
    device="cpu",
    singdiffusion="on",
    first_step={"method": "moments"},
)
FOUND = {"steps": "20", "cfg_scale": "7.5", "seed": "7"}


def opened(settings):
    return Image.open(io.BytesIO(png(IMAGE, settings)))


def parsed(settings):
    """What sd-parsers finds: prompt, negative prompt, sampler."""
    found = ParserManager().parse(io.BytesIO(png(IMAGE, settings)))
    (sampler,) = found.samplers
    return found.full_prompt, found.full_negative_prompt, sampler


def test_the_settings_are_json_under_diffusers_names():
    with opened(SETTINGS) as picture:
        assert read_settings(picture) == SETTINGS.as_json()
        assert json.loads(picture.text["singdiffusion"])["first_step"] == {"method": "moments"}
        assert picture.text["Software"].startswith("singdiffusion 0.")
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(IMAGE))


def test_artists_tools_find_every_setting():
    prompt, negative_prompt, sampler = parsed(SETTINGS)
    assert (prompt, negative_prompt) == ("a dark room", "grey")
    assert (sampler.name, sampler.parameters) == ("Euler a", FOUND)
    assert sampler.model.name == "stable-diffusion-v1-5"
    last = parameters(SETTINGS).splitlines()[-1]
    assert last.startswith("Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 16x24, Model: stable-diffusion")
    assert "SingDiffusion: on, SingDiffusion module: tiny, SingDiffusion method: moments" in last


@pytest.mark.parametrize(
    "prompt",
    [
        "two\nlines",
        "a \"quoted\" word, and 'another'",
        "red, blue: green, {json: true}",
        "Steps: 3",
        "a room\nSteps: 3, Sampler: DDIM, CFG scale: 1, Seed: 1",
        "暗い部屋, mörk, 🌚",
        "ends with a comma,",
    ],
)
@pytest.mark.parametrize("negative_prompt", [None, "", "grey, Steps: 9", "two\nlines, ünlit"])
def test_awkward_prompts(prompt, negative_prompt):
    settings = SETTINGS.of(prompt=prompt, negative_prompt=negative_prompt)
    found = parsed(settings)
    assert found[:2] == (prompt, negative_prompt or "")
    assert found[2].parameters == FOUND
    with opened(settings) as picture:
        assert read_settings(picture)["prompt"] == prompt


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=60)


@given(TEXT.filter(str.strip), TEXT)
def test_any_prompt_comes_back(prompt, negative_prompt):
    settings = SETTINGS.of(prompt=prompt, negative_prompt=negative_prompt)
    assert parsed(settings)[:2] == (prompt.strip(), negative_prompt.strip())
    with opened(settings) as picture:
        assert read_settings(picture) == settings.as_json()


def test_the_marker_of_the_negative_prompt_inside_a_prompt_does_not_move_the_border():
    settings = SETTINGS.of(prompt="a sign, Negative prompt: no", negative_prompt="Negative prompt: yes")
    assert parsed(settings)[:2] == ("a sign, Negative prompt : no", "Negative prompt : yes")
    assert settings.as_json()["prompt"] == "a sign, Negative prompt: no"


@pytest.mark.parametrize("model", ["C:/models/a, Seed: 5.safetensors", 'x: "Steps: 4"', "folder/name\nSteps: 1"])
def test_a_models_name_does_not_become_a_setting(model):
    assert parsed(SETTINGS.of(model=model))[2].parameters == FOUND


def test_settings_that_are_not_known_are_left_out():
    assert parameters(PictureSettings("a", 3)).splitlines()[1].startswith("Seed: 3, SingDiffusion: off, Version: ")


def test_the_same_picture_and_settings_give_the_same_bytes():
    assert png(IMAGE, SETTINGS, optimize=True) == png(IMAGE.copy(), SETTINGS.of(), optimize=True)


def test_a_picture_without_settings_has_no_text():
    with Image.open(io.BytesIO(png(IMAGE))) as picture:
        assert picture.text == {}
        assert read_settings(picture) == {}


def test_the_picture_without_singdiffusion_has_neither_module_nor_first_step():
    without = SETTINGS.without()
    assert (without.singdiffusion, without.module, without.first_step) == ("off", None, None)
    assert without.of(singdiffusion="on", module=SETTINGS.module, first_step=SETTINGS.first_step) == SETTINGS


def test_a_record_with_other_names_too_is_kept_as_details():
    record = {"model": "tiny", "guidance_scale": 2.0, "weights": {"unet": "12ab"}}
    settings = settings_from(record, "a", 3, width=8)
    assert (settings.model, settings.guidance_scale, settings.width) == ("tiny", 2.0, 8)
    assert settings.as_json()["details"] == record
    assert "details" not in SETTINGS.as_json()


def test_every_scheduler_has_a_name_in_artists_tools():
    names = [sampler_name(class_name) for class_name in SCHEDULERS.values()]
    assert len(set(names)) == len(SCHEDULERS)
    assert not any(set(name) & set(",:") for name in names)
    assert sampler_name("CogVideoXDPMScheduler") == "CogVideoXDPM"


def test_the_names_are_those_of_a_pipelines_call():
    import inspect

    from diffusers import StableDiffusionPipeline

    call = inspect.signature(StableDiffusionPipeline.__call__).parameters
    own = {
        "seed",
        "scheduler",
        "model",
        "module",
        "control",
        "torch_dtype",
        "device",
        "singdiffusion",
        "first_step",
        "details",
    }
    assert {field.name for field in fields(PictureSettings)} - own <= call.keys()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 50_000, '"a"'])
def test_settings_of_others_are_one_line(text, tmp_path):
    info = PngInfo()
    info.add_text("singdiffusion", text)
    IMAGE.save(tmp_path / "a.png", pnginfo=info)
    with (
        Image.open(tmp_path / "a.png") as picture,
        pytest.raises(SingDiffusionError, match="the text 'singdiffusion' of the picture"),
    ):
        read_settings(picture)
    assert not is_ours(tmp_path / "a.png")


def test_names_in_another_encoding_are_written_as_escapes(tmp_path):
    """A folder's name that is not UTF-8 reaches Python as halves of characters."""
    (tmp_path / "a.png").write_bytes(png(IMAGE, SETTINGS.of(model="caf\udce9", prompt="a \x1b[31m room")))
    with Image.open(tmp_path / "a.png") as picture:
        assert read_settings(picture)["model"] == "caf\udce9"
        assert "Model: caf\\udce9" in picture.info["parameters"]
    assert is_ours(tmp_path / "a.png")
