"""Pictures of one request, compared with the plug-in itself and with the command line."""

import shlex
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from singdiffusion import SingDiffusion, SingDiffusionError, audit, tiny
from singdiffusion.modules import SingModule
from singdiffusion.painting.paint import paint
from singdiffusion.painting.png import read_settings
from singdiffusion.web import drawings
from singdiffusion.web.settings import FirstStep, Settings
from singdiffusion.web.studio import Cancelled, Studio
from tests.commands import cli
from tests.conftest import make_config, make_module

BLACK = "solid black background"


def pixels(image):
    return np.asarray(image)


@pytest.mark.parametrize(
    ("module", "method"),
    [
        ("tiny-unet", "mean"),
        ("tiny", "mean"),
        ("tiny", "moments"),
    ],
)
@pytest.mark.parametrize("scheduler", ["default", "euler"])
def test_the_pictures_are_those_of_the_plug_in(studio, module, method, scheduler):
    first = {"module": module, "first_step": FirstStep(method=method)}
    made = studio.paint(Settings(prompt=BLACK, seed=3, num_inference_steps=4, scheduler=scheduler, count=2, **first))
    pipe = tiny.load_pipeline()
    if scheduler == "euler":
        from diffusers import EulerDiscreteScheduler

        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 7.5}
    without = paint(pipe, [BLACK] * 2, [3, 4], **options)
    SingDiffusion.from_pretrained(module).enable(pipe, method=method)
    with_sing = paint(pipe, [BLACK] * 2, [3, 4], **options)
    assert [pair.seed for pair in made.pairs] == [3, 4]
    for pair, off, on in zip(made.pairs, without, with_sing, strict=True):
        np.testing.assert_array_equal(pixels(pair.off), pixels(off))
        np.testing.assert_array_equal(pixels(pair.on), pixels(on))


def test_off_paints_once(studio):
    parts = set()
    made = studio.paint(Settings(prompt=BLACK, num_inference_steps=3, module="none"), lambda part, *_: parts.add(part))
    assert parts == {"off"}
    assert made.pairs[0].on is None
    assert drawings.as_json(made)["pictures"][0]["on"] is None
    assert (made.record.singdiffusion, made.record.module, made.record.first_step) == ("off", None, None)


def test_a_flat_color_and_a_prompt_of_its_own_reach_the_first_step(studio):
    first_steps = {}, {"color": "#000000"}, {"prompt": "solid white background"}
    plain, dark, bright = (
        studio.paint(Settings(prompt="rocket", num_inference_steps=8, first_step=FirstStep(**each))).pairs[0]
        for each in first_steps
    )
    assert dark.mean_luma[1] < plain.mean_luma[1] < bright.mean_luma[1]
    assert dark.mean_luma[0] == plain.mean_luma[0] == bright.mean_luma[0]


def test_nothing_is_left_enabled(studio):
    studio.paint(Settings(prompt=BLACK, num_inference_steps=2))
    SingDiffusion().enable(studio.pipe, color="black").disable()


def test_progress_counts_every_step_of_both_halves(studio):
    seen = []
    studio.paint(Settings(prompt=BLACK, num_inference_steps=5, count=2), lambda *each: seen.append(each))
    assert [each for i, each in enumerate(seen) if i % 2] == [
        (part, step, 5) for part in ("off", "on") for step in range(1, 6)
    ]


@pytest.mark.parametrize("scheduler", ["heun", "pndm", "dpm++-single", "lcm"])
def test_progress_ends_at_its_total_with_every_scheduler(studio, scheduler):
    seen = []
    studio.paint(Settings(prompt=BLACK, num_inference_steps=4, scheduler=scheduler), lambda *each: seen.append(each))
    for part in ("off", "on"):
        *_, last = [each for each in seen if each[0] == part]
        assert last[1] == last[2]


def test_cancelling_stops_after_the_step_and_leaves_the_studio_usable(studio):
    cancelled, seen = threading.Event(), []

    def on_step(part, step, steps):
        seen.append((part, step))
        if (part, step) == ("on", 2):
            cancelled.set()

    settings = Settings(prompt=BLACK, num_inference_steps=6)
    with pytest.raises(Cancelled):
        studio.paint(settings, on_step, cancelled)
    assert seen[-1] == ("on", 2)
    again = studio.paint(settings)
    assert again.pairs[0].mean_luma[1] < 20 < again.pairs[0].mean_luma[0]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"scheduler": "foo"}, "unknown scheduler 'foo'; known: default, ddim"),
        ({"module": "foo"}, "unknown module 'foo'; known: none, tiny-unet, tiny"),
        ({"first_step": {"method": "foo"}}, "unknown method 'foo'; known: mean, moments"),
        ({"module": "tiny-unet", "first_step": {"method": "moments"}}, "unknown method 'moments'; known: mean"),
        ({"first_step": {"color": "blu"}}, "'blu' is (no|not a) colou?r"),
        ({"first_step": {"color": "black", "prompt": "a"}}, "goes with no other option"),
        ({"first_step": {"negative_prompt": "a"}}, "needs a first_step.prompt"),
        ({"module": "none", "first_step": {"prompt": "a"}}, "first_step needs a module"),
        ({"width": 65}, "width must be a positive multiple of 16"),
        ({"control": "house"}, "unknown control 'house'; known: none"),
    ],
)
def test_what_the_model_cannot_do_is_one_line(studio, change, line):
    with pytest.raises(SingDiffusionError, match=line):
        studio.paint(Settings.model_validate({"prompt": "a"} | change))


def test_a_scheduler_goes_by_its_class_name_too(studio):
    short, long = (
        studio.paint(Settings(prompt=BLACK, num_inference_steps=2, scheduler=name))
        for name in ("euler", "EulerDiscreteScheduler")
    )
    np.testing.assert_array_equal(pixels(short.pairs[0].on), pixels(long.pairs[0].on))
    assert short.record.scheduler == long.record.scheduler == "EulerDiscreteScheduler"
    assert drawings.command(short, 0) == drawings.command(long, 0)


def test_the_verdict_is_the_audits_own(studio):
    settings = Settings(prompt="a", scheduler="euler", num_inference_steps=20)
    assert studio.audit(settings) == audit("tiny", 20, scheduler="EulerDiscreteScheduler")
    wide = studio.audit(Settings(prompt="a", width=128, height=32))
    assert wide == audit("tiny", 50, latents=(8, 32))


def test_a_module_that_does_not_fit_is_refused_before_anybody_asks(pipe):
    with pytest.raises(SingDiffusionError, match="another latent space|text encoder"):
        Studio("x", pipe, {"tiny": SingDiffusion.from_pretrained("tiny")})


def test_a_second_module_of_one_kind_is_refused(pipe, sing):
    other = SingDiffusion(
        SingModule(make_module(seed=7), make_config(text_fingerprint=sing.module.config.text_fingerprint))
    )
    with pytest.raises(SingDiffusionError, match="b is the second TimeFreeUNet"):
        Studio("x", pipe, {"a": sing, "b": other})


def test_without_a_module_only_a_flat_color_is_left(make_pipe):
    studio = Studio("x", make_pipe())
    assert studio.modules == {"none": []}
    assert studio.paint(Settings(prompt="a", num_inference_steps=2)).pairs[0].on is None
    navy = studio.paint(Settings(prompt="a", num_inference_steps=2, first_step=FirstStep(color="navy")))
    assert navy.pairs[0].on is not None
    assert (navy.record.module, navy.record.first_step) == (None, {"color": "navy"})


def test_a_controlnet_follows_what_is_chosen():
    pipe = tiny.load_pipeline(model="tiny-controlnet")
    with pytest.raises(SingDiffusionError, match="has a ControlNet and needs a picture"):
        Studio("tiny-controlnet", pipe)
    hints = tiny.hints()
    studio = Studio("tiny-controlnet", pipe, controls=hints)
    first, second = list(hints)[:2]
    one, default, other = (
        studio.paint(Settings(prompt="logo", num_inference_steps=3, control=name)).pairs[0].off
        for name in (first, "", second)
    )
    np.testing.assert_array_equal(pixels(one), pixels(default))
    assert (pixels(one) != pixels(other)).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"module": "tiny-unet", "scheduler": "euler", "negative_prompt": "red"},
        {"module": "none"},
        {"first_step": {"color": "navy"}},
        {"first_step": {"prompt": "solid blue background", "guidance_scale": 3.0}, "width": 128, "height": 64},
        {"prompt": "--rocket"},
    ],
)
def test_the_command_that_the_page_shows_paints_the_same(studio, change, tmp_path):
    given = {"prompt": "rocket on a black background", "seed": 7, "num_inference_steps": 4} | change
    made = studio.paint(Settings.model_validate(given))
    shown = drawings.shown(made)[0]
    words = shlex.split(shown["command"])
    assert words[:2] == ["singdiffusion", "generate"]
    words[words.index("--out") + 1] = str(tmp_path)
    cli(*words[1:])
    pair = made.pairs[0]
    suffix = "" if pair.on is None else "-with_sing"
    with Image.open(tmp_path / f"{shown['name']}{suffix}.png") as on:
        # a process of its own may add in another order
        np.testing.assert_allclose(pixels(on).astype(int), pixels(pair.on or pair.off).astype(int), atol=1)
        assert read_settings(on) == made.record.as_json()


@pytest.mark.slow
def test_the_command_has_the_servers_own_names_of_model_module_and_control(tmp_path):
    module, hints = str(tiny.module_folder("tiny-unet")), tiny.hints()
    pipe = tiny.load_pipeline(model="tiny-controlnet")
    studio = Studio("tiny-controlnet", pipe, {module: SingDiffusion.from_pretrained(module)}, controls=hints)
    made = studio.paint(Settings(prompt="logo", num_inference_steps=3, control=list(hints)[1]))
    words = shlex.split(drawings.command(made, 0))
    assert words[words.index("--module") + 1] == module
    words[words.index("--out") + 1] = str(tmp_path)
    cli(*words[1:])
    with Image.open(tmp_path / "logo-0-with_sing.png") as on:
        np.testing.assert_allclose(pixels(on).astype(int), pixels(made.pairs[0].on).astype(int), atol=1)
        assert read_settings(on)["module"] == made.record.module == module


def test_the_command_names_a_precision_that_auto_would_not_choose(make_pipe):
    made = Studio("x", make_pipe().to(torch.bfloat16)).paint(Settings(prompt="a", num_inference_steps=1))
    assert "--dtype bfloat16" in drawings.command(made, 0)
    assert "--device" not in drawings.command(made, 0)


def test_what_needs_more_memory_than_is_free_is_refused_before_painting(studio, monkeypatch):
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 2**28)
    assert studio.check(Settings(prompt="a", height=64, width=64, count=4)).count == 4
    for large in ({"height": 2048, "width": 2048}, {"height": 1024, "width": 1024, "count": 4}):
        with pytest.raises(SingDiffusionError, match=r"picture.* pixels needs about [0-9.]+ GiB of memory") as raised:
            studio.check(Settings(prompt="a", **large))
        assert raised.value.setting == "height"
