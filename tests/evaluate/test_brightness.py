"""Brightness: the luma's closed forms, the same seeds off and on, and pictures that do not depend on their neighbours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from singdiffusion import SingDiffusionError
from singdiffusion.evaluate.brightness import PromptResult, Spread, compare, generate, missed
from singdiffusion.painting.luma import mean_luma

OPTIONS = {"num_inference_steps": 3, "guidance_scale": 5.0}


def flat(*rgb):
    return Image.new("RGB", (8, 8), rgb)


@pytest.mark.parametrize(
    ("rgb", "value"),
    [((0, 0, 0), 0), ((255, 255, 255), 255), ((255, 0, 0), 76.245), ((0, 255, 0), 149.685), ((0, 0, 255), 29.07)],
)
def test_luma_of_flat_pictures(rgb, value):
    """Rec. 601: 0.299 R + 0.587 G + 0.114 B."""
    assert mean_luma(flat(*rgb)) == pytest.approx(value, abs=1e-9)


@given(st.integers(0, 255), st.integers(0, 255))
def test_half_and_half_is_the_mean(a, b):
    picture = flat(a, a, a)
    picture.paste(flat(b, b, b).crop((0, 0, 4, 8)), (0, 0))
    assert mean_luma(picture) == pytest.approx((a + b) / 2, abs=1e-9)


@given(st.lists(st.floats(0, 255), min_size=1, max_size=30))
def test_spread_is_mean_and_population_deviation(greys):
    spread = Spread.of(greys)
    assert spread.mean == pytest.approx(sum(greys) / len(greys), abs=1e-9)
    assert spread.std**2 == pytest.approx(sum((g - spread.mean) ** 2 for g in greys) / len(greys), abs=1e-6)


def test_no_pictures_have_no_brightness():
    with pytest.raises(SingDiffusionError, match="no pictures"):
        Spread.of([])


def test_the_miss():
    result = PromptResult("p", [flat(100, 100, 100)], [flat(10, 10, 10)], Spread(4, 1))
    assert missed(result) == pytest.approx((96, 6))
    with pytest.raises(SingDiffusionError, match="no real pictures"):
        missed(PromptResult("p", result.off, result.on))


def arrays(images):
    return [np.asarray(image) for image in images]


def test_a_picture_is_its_seed_whatever_the_batch(pipe):
    alone = arrays(generate(pipe, "a room", [4], **OPTIONS))[0]
    among = arrays(generate(pipe, "a room", [2, 3, 4, 5, 6], batch=3, **OPTIONS))
    assert len(among) == 5
    np.testing.assert_allclose(among[2].astype(int), alone.astype(int), atol=1)  # rounding of other batch sizes
    assert np.abs(among[1].astype(int) - alone).max() > 1


def test_compare_runs_the_same_seeds_off_and_on(pipe, sing):
    plain = arrays(generate(pipe, "a room", [0, 1], **OPTIONS))
    sing.enable(pipe)
    ticks = []
    real = {"a room": Spread(1, 2)}
    result, other = compare(pipe, sing, ["a room", "a page"], [0, 1], real, on_step=lambda: ticks.append(1), **OPTIONS)
    assert (result.prompt, result.real, other.real) == ("a room", Spread(1, 2), None)
    for off, expected, on in zip(arrays(result.off), plain, arrays(result.on), strict=True):
        np.testing.assert_array_equal(off, expected)
        assert not np.array_equal(off, on)
    assert len(ticks) == 2 * 2 * 2 * OPTIONS["num_inference_steps"]
    assert sing.enabled


def test_compare_needs_it_enabled(pipe, sing):
    with pytest.raises(SingDiffusionError, match="enable SingDiffusion"):
        compare(pipe, sing, ["a"], [0], **OPTIONS)
