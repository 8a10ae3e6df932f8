"""Whatever comes over the network: settings that can be painted, or one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError
from singdiffusion.web.settings import Limits, Settings, read

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
    settings, says = None, ""
    try:
        settings = read({"prompt": "a"} | values, LIMITS)
    except SingDiffusionError as error:
        says = str(error)
    if settings is None:
        assert "\n" not in says
        assert 0 < len(says) < 400
        return
    assert settings.prompt.strip()
    assert 1 <= settings.steps <= LIMITS.steps
    assert 1 <= settings.count <= LIMITS.count
    assert 0 <= settings.seed < 2**32
    assert 0 <= settings.guidance <= 30
    assert max(settings.width, settings.height) <= LIMITS.side


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "prompt: it is missing"),
        ({"prompt": "  "}, "prompt: it is empty"),
        ({"prompt": "a" * 1001}, "prompt: at most 1000 letters"),
        ({"prompt": "a\x00b"}, "control characters"),
        ({"prompt": 5}, "prompt: it must be a text"),
        ({"prompt": "a", "steps": 0}, "steps:"),
        ({"prompt": "a", "steps": 151}, "steps: at most 150"),
        ({"prompt": "a", "steps": True}, "steps:"),
        ({"prompt": "a", "steps": 1.5}, "steps:"),
        ({"prompt": "a", "steps": "5"}, "steps:"),
        ({"prompt": "a", "count": 5}, "count: at most 4"),
        ({"prompt": "a", "width": 1032}, "width: at most 1024"),
        ({"prompt": "a", "height": -8}, "height:"),
        ({"prompt": "a", "seed": -1}, "seed:"),
        ({"prompt": "a", "seed": 2**32}, "seed:"),
        ({"prompt": "a", "guidance": float("nan")}, "guidance:"),
        ({"prompt": "a", "guidance": float("inf")}, "guidance:"),
        ({"prompt": "a", "nope": 1}, "nope: there is no such setting"),
    ],
)
def test_each_mistake_is_named(values, says):
    with pytest.raises(SingDiffusionError, match=says):
        read(values, LIMITS)


def test_null_is_the_default():
    assert read({"prompt": "a", "steps": None, "color": None}, LIMITS) == Settings(prompt="a")
