"""Pictures of one request, against the plug-in itself and against the command line."""

import json
import shlex
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from singdiffusion import SingDiffusion, SingDiffusionError, audit, tiny
from singdiffusion.modules import SingModule
from singdiffusion.painting.paint import paint
from singdiffusion.web import drawings
from singdiffusion.web.settings import Settings
from singdiffusion.web.studio import Cancelled, Studio
from tests.commands import cli
from tests.conftest import make_config, make_module

BLACK = "solid black background"


def pixels(image):
    return np.asarray(image)


@pytest.mark.parametrize(
    ("method", "module", "name"),
    [
        ("unet-mean", "tiny-unet", "mean"),
        ("decoder-mean", "tiny", "mean"),
        ("decoder-moments", "tiny", "moments"),
    ],
)
@pytest.mark.parametrize("scheduler", ["default", "euler"])
def test_the_pictures_are_those_of_the_plug_in(studio, method, module, name, scheduler):
    made = studio.paint(Settings(prompt=BLACK, seed=3, steps=4, method=method, scheduler=scheduler, count=2))
    pipe = tiny.load_pipeline()
    if scheduler == "euler":
        from diffusers import EulerDiscreteScheduler

        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 7.5}
    without = paint(pipe, [BLACK] * 2, [3, 4], **options)
    SingDiffusion.from_pretrained(module).enable(pipe, method=name)
    with_ = paint(pipe, [BLACK] * 2, [3, 4], **options)
    assert [pair.seed for pair in made.pairs] == [3, 4]
    for pair, off, on in zip(made.pairs, without, with_, strict=True):
        np.testing.assert_array_equal(pixels(pair.without), pixels(off))
        np.testing.assert_array_equal(pixels(pair.with_), pixels(on))


def test_off_paints_once(studio):
    parts = set()
    made = studio.paint(Settings(prompt=BLACK, steps=3, method="off"), lambda part, *_: parts.add(part))
    assert parts == {"without"}
    assert made.pairs[0].with_ is None
    assert drawings.as_json(made)["pictures"][0]["with"] is None


def test_a_colour_and_words_of_its_own_reach_the_first_step(studio):
    plain = studio.paint(Settings(prompt="rocket", steps=8)).pairs[0]
    dark = studio.paint(Settings(prompt="rocket", steps=8, color="#000000")).pairs[0]
    told = studio.paint(Settings(prompt="rocket", steps=8, first_prompt="solid white background")).pairs[0]
    assert dark.greys[1] < plain.greys[1] < told.greys[1]
    assert dark.greys[0] == plain.greys[0] == told.greys[0]


def test_nothing_is_left_enabled(studio):
    studio.paint(Settings(prompt=BLACK, steps=2))
    SingDiffusion().enable(studio.pipe, color="black").disable()


def test_progress_counts_every_step_of_both_halves(studio):
    seen = []
    studio.paint(Settings(prompt=BLACK, steps=5, count=2), lambda *each: seen.append(each))
    assert [each for i, each in enumerate(seen) if i % 2] == [
        (part, step, 5) for part in ("without", "with") for step in range(1, 6)
    ]


@pytest.mark.parametrize("scheduler", ["heun", "pndm", "dpm++-single", "lcm"])
def test_progress_ends_at_its_total_whatever_the_scheduler_calls_a_step(studio, scheduler):
    seen = []
    studio.paint(Settings(prompt=BLACK, steps=4, scheduler=scheduler), lambda *each: seen.append(each))
    for part in ("without", "with"):
        *_, last = [each for each in seen if each[0] == part]
        assert last[1] == last[2]


def test_cancelling_stops_after_the_step_and_leaves_the_studio_usable(studio):
    cancelled, seen = threading.Event(), []

    def on_step(part, step, steps):
        seen.append((part, step))
        if (part, step) == ("with", 2):
            cancelled.set()

    settings = Settings(prompt=BLACK, steps=6)
    with pytest.raises(Cancelled):
        studio.paint(settings, on_step, cancelled)
    assert seen[-1] == ("with", 2)
    again = studio.paint(settings)
    assert again.pairs[0].greys[1] < 20 < again.pairs[0].greys[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scheduler": "foo"}, "scheduler: unknown 'foo'; known: default, ddim"),
        ({"method": "foo"}, "method: unknown 'foo'; known: off, unet-mean, decoder-mean, decoder-moments"),
        ({"color": "blu"}, "'blu' is no colour"),
        ({"color": "black", "first_prompt": "a"}, "not both"),
        ({"method": "off", "first_prompt": "a"}, "needs a first step"),
        ({"width": 65}, "width must be a positive multiple of 16"),
        ({"control": "house"}, "control: unknown 'house'; known: none"),
    ],
)
def test_what_the_model_cannot_do_is_said(studio, change, says):
    with pytest.raises(SingDiffusionError, match=says):
        studio.paint(Settings(**({"prompt": "a"} | change)))


def test_the_verdict_is_the_audits_own(studio):
    settings = Settings(prompt="a", scheduler="euler", steps=20)
    assert studio.audit(settings) == audit("tiny", 20, scheduler="EulerDiscreteScheduler")
    wide = studio.audit(Settings(prompt="a", width=128, height=32))
    assert wide == audit("tiny", 50, latents=(8, 32))


def test_a_module_that_does_not_fit_is_refused_before_anybody_asks(pipe):
    with pytest.raises(SingDiffusionError, match="another latent space|text encoder"):
        Studio("x", pipe, {"tiny": SingDiffusion.from_pretrained("tiny")})


def test_two_modules_of_one_kind_are_one_too_many(pipe, sing):
    other = SingDiffusion(
        SingModule(make_module(seed=7), make_config(text_fingerprint=sing.module.config.text_fingerprint))
    )
    with pytest.raises(SingDiffusionError, match="b is one too many"):
        Studio("x", pipe, {"a": sing, "b": other})


def test_without_a_module_only_a_colour_is_left(make_pipe):
    studio = Studio("x", make_pipe())
    assert list(studio.methods) == ["off"]
    assert studio.paint(Settings(prompt="a", steps=2)).pairs[0].with_ is None
    assert studio.paint(Settings(prompt="a", steps=2, color="navy")).pairs[0].with_ is not None


def test_a_controlnet_follows_what_is_chosen():
    pipe = tiny.load_pipeline(model="tiny-controlnet")
    with pytest.raises(SingDiffusionError, match="--control"):
        Studio("tiny-controlnet", pipe)
    hints = tiny.hints()
    studio = Studio("tiny-controlnet", pipe, controls=hints)
    first, second = list(hints)[:2]
    one, default, other = (
        studio.paint(Settings(prompt="logo", steps=3, control=name)).pairs[0].without for name in (first, "", second)
    )
    np.testing.assert_array_equal(pixels(one), pixels(default))
    assert (pixels(one) != pixels(other)).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"method": "unet-mean", "scheduler": "euler", "negative_prompt": "red"},
        {"method": "off"},
        {"color": "navy"},
        {"first_prompt": "solid blue background", "width": 128, "height": 64},
    ],
)
def test_the_command_that_the_page_shows_paints_the_same(studio, change, tmp_path):
    made = studio.paint(Settings(**({"prompt": "rocket on a black background", "seed": 7, "steps": 4} | change)))
    shown = drawings.shown(made)[0]
    words = shlex.split(shown["command"])
    assert words[:2] == ["singdiffusion", "generate"]
    words[words.index("--out") + 1] = str(tmp_path)
    cli(*words[1:])
    pair = made.pairs[0]
    with Image.open(tmp_path / f"{shown['name']}.png") as on:
        np.testing.assert_allclose(
            pixels(on).astype(int), pixels(pair.with_ or pair.without).astype(int), atol=1
        )  # a process of its own may add in another order


@pytest.mark.slow
def test_the_command_names_model_module_and_control_as_the_server_was_given_them(tmp_path):
    module, hints = str(tiny.module_folder("tiny-unet")), tiny.hints()
    pipe = tiny.load_pipeline(model="tiny-controlnet")
    studio = Studio("tiny-controlnet", pipe, {module: SingDiffusion.from_pretrained(module)}, controls=hints)
    made = studio.paint(Settings(prompt="logo", steps=3, control=list(hints)[1]))
    words = shlex.split(drawings.command(made, 0))
    assert words[words.index("--module") + 1] == module
    words[words.index("--out") + 1] = str(tmp_path)
    cli(*words[1:])
    with Image.open(tmp_path / "logo-0.png") as on:
        np.testing.assert_allclose(pixels(on).astype(int), pixels(made.pairs[0].with_).astype(int), atol=1)
        assert json.loads(on.text["settings"])["module"] == made.made_with["module"] == module


def test_the_command_says_where_it_does_not_compute_as_usual(make_pipe):
    made = Studio("x", make_pipe().to(torch.bfloat16)).paint(Settings(prompt="a", steps=1))
    assert "--dtype bfloat16" in drawings.command(made, 0)
    assert "--device" not in drawings.command(made, 0)
