"""Any request from the network gives settings that can be painted, or one line."""

import inspect
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singdiffusion import SingDiffusion, SingDiffusionError
from singdiffusion.painting.metadata import PictureSettings
from singdiffusion.web.settings import FirstStep, Limits, Settings, read

LIMITS = Limits()
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
NAMES = st.one_of(st.sampled_from(list(Settings.model_fields)), st.text(max_size=10))


@given(st.dictionaries(NAMES, ANYTHING, max_size=6))
def test_anything_is_settings_or_one_line(values):
    settings, line = None, ""
    try:
        settings = read({"prompt": "a"} | values, LIMITS)
    except SingDiffusionError as error:
        line = str(error)
    if settings is None:
        assert "\n" not in line
        assert 0 < len(line) < 400
        return
    assert settings.prompt.strip()
    assert 1 <= settings.num_inference_steps <= LIMITS.num_inference_steps
    assert 1 <= settings.count <= LIMITS.count
    assert 0 <= settings.seed < 2**32
    assert 0 <= settings.guidance_scale <= 30
    assert max(settings.width, settings.height) <= LIMITS.side


@pytest.mark.parametrize(
    ("values", "line", "setting"),
    [
        ({}, "prompt is missing", "prompt"),
        ({"prompt": "  "}, "prompt is empty", "prompt"),
        ({"prompt": "a" * 1001}, "prompt must have at most 1000 letters, not 1001", "prompt"),
        ({"prompt": "a\x00b"}, "control characters", "prompt"),
        ({"prompt": "a", "negative_prompt": "\ud800"}, "negative_prompt has control characters", "negative_prompt"),
        ({"prompt": 5}, "prompt must be text, not 5", "prompt"),
        ({"prompt": "a", "num_inference_steps": 0}, "must be at least 1, not 0", "num_inference_steps"),
        ({"prompt": "a", "num_inference_steps": 151}, "must be at most 150", "num_inference_steps"),
        ({"prompt": "a", "num_inference_steps": True}, "must be a whole number", "num_inference_steps"),
        ({"prompt": "a", "num_inference_steps": 1.5}, "must be a whole number", "num_inference_steps"),
        ({"prompt": "a", "num_inference_steps": "5"}, "must be a whole number", "num_inference_steps"),
        ({"prompt": "a", "count": 5}, "count must be at most 4", "count"),
        ({"prompt": "a", "width": 1032}, "width must be at most 1024", "width"),
        ({"prompt": "a", "height": -8}, "height must be at least 0", "height"),
        ({"prompt": "a", "seed": -1}, "seed must be at least 0, not -1", "seed"),
        ({"prompt": "a", "seed": 2**32}, "seed must be less than 4294967296", "seed"),
        ({"prompt": "a", "guidance_scale": float("nan")}, "must be a finite number", "guidance_scale"),
        ({"prompt": "a", "guidance_scale": float("inf")}, "must be a finite number", "guidance_scale"),
        ({"prompt": "a", "nope": 1}, "nope is unknown", "nope"),
        ({"prompt": "a", "first_step": "dark"}, "first_step must be an object, not 'dark'", "first_step"),
        ({"prompt": "a", "first_step": {"steps": 1}}, "first_step.steps is unknown", "first_step.steps"),
        ({"prompt": "a", "first_step": {"prompt": "\x00"}}, "control characters", "first_step.prompt"),
    ],
)
def test_each_mistake_is_named(values, line, setting):
    with pytest.raises(SingDiffusionError, match=line) as raised:
        read(values, LIMITS)
    assert raised.value.setting == setting


def test_null_is_the_default():
    given = {"prompt": "a", "num_inference_steps": None, "first_step": {"color": None}}
    assert read(given, LIMITS) == Settings(prompt="a")
    assert read({"prompt": "a", "first_step": None}, LIMITS) == Settings(prompt="a")


def test_the_first_steps_options_are_those_of_enable():
    enable = set(inspect.signature(SingDiffusion.enable).parameters) - {"self", "pipe"}
    assert set(FirstStep.model_fields) == enable
    given = {"method": "mean", "prompt": "dark", "guidance_scale": 2.0}
    assert FirstStep(**given).options() == given


def test_the_names_are_those_of_a_pictures_record():
    names = {field.name for field in fields(PictureSettings)}
    assert set(Settings.model_fields) - {"count"} <= names
