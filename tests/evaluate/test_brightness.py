"""Brightness: the luma's closed forms, the same seeds without and with, and pictures that do not depend on their neighbours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from singdiffusion import SingDiffusionError
from singdiffusion.evaluate.brightness import measure, miss
from singdiffusion.evaluate.gallery import Job, jobs_of_prompts
from singdiffusion.evaluate.metrics.brightness import Brightness
from singdiffusion.evaluate.painter import Painter
from singdiffusion.evaluate.processes import Processes
from singdiffusion.evaluate.remedies import FirstStep, Off
from singdiffusion.painting.luma import BINS, mean_luma
from singdiffusion.painting.prompts import named

OPTIONS = {"num_inference_steps": 3, "guidance_scale": 5.0}
ALL = np.ones(BINS)


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
def test_spread_is_mean_and_population_deviation(values):
    found = Brightness.of(values, ALL)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert found.std**2 == pytest.approx(sum((v - found.mean) ** 2 for v in values) / len(values), abs=1e-6)


def test_no_pictures_have_no_brightness():
    with pytest.raises(SingDiffusionError, match="no pictures"):
        Brightness.of([], ALL)


def test_the_miss():
    """Distances from real pictures add up over prompts; with one of them unknown there is no sum."""
    found = {"dark": Brightness.of([100], ALL), "light": Brightness.of([250, 240], ALL)}
    assert miss(found, {"dark": 4, "light": 246}) == pytest.approx(96 + 1)
    assert miss({"dark": Brightness.of([10], ALL)}, {"dark": 4}) == pytest.approx(6)
    assert miss(found, {"dark": 4}) is None


@pytest.fixture
def painter(pipe, tmp_path):
    return Painter("m", pipe, tmp_path, Processes(cpu=True), OPTIONS, batch=3)


def arrays(gallery, jobs):
    return [np.asarray(gallery.read(job)).astype(int) for job in jobs]


def test_a_picture_is_its_seed_whatever_the_batch(pipe, painter, tmp_path):
    (room,) = named(["a room"])
    alone = Painter("m", pipe, tmp_path / "alone", Processes(cpu=True), OPTIONS).paint(Off(), [Job(room, 4)])
    jobs = jobs_of_prompts([room], 5, 2)
    among = arrays(painter.paint(Off(), jobs), jobs)
    assert len(among) == 5
    (expected,) = arrays(alone, [Job(room, 4)])
    np.testing.assert_allclose(among[2], expected, atol=1)  # rounding of other batch sizes
    assert np.abs(among[1] - expected).max() > 1


def test_the_same_seeds_without_and_with(pipe, painter, sing_folder):
    prompts = named(["a room", "a page"])
    jobs = jobs_of_prompts(prompts, 2, 0)
    plain = arrays(painter.paint(Off(), jobs), jobs)
    ticks = []
    remedies = [Off(), FirstStep(str(sing_folder))]
    off, on = measure(painter, remedies, prompts, 2, 0, ticks.append)
    assert [each.remedy for each in (off, on)] == remedies
    shown_off, shown_on = ([image for prompt in prompts for image in each.shown[prompt.id]] for each in (off, on))
    for without, expected, with_sing in zip(shown_off, plain, shown_on, strict=True):
        np.testing.assert_array_equal(np.asarray(without), expected)
        assert not np.array_equal(np.asarray(without), np.asarray(with_sing))
    for each, shown in ((off, shown_off), (on, shown_on)):
        measured = [value for prompt in prompts for value in each.found[prompt.id].mean_lumas]
        assert measured == pytest.approx([mean_luma(image) for image in shown])
    assert sum(ticks) == 2 * 2 * 2
    assert not any(isinstance(value, FirstStep) for value in vars(pipe).values())
    np.testing.assert_array_equal(arrays(painter.paint(Off(), jobs), jobs), plain)


def test_progress_moves_within_a_batch(painter):
    """Each picture counts once, as soon as its share of the denoising steps is done; what is there already counts at once."""
    jobs = jobs_of_prompts(named(["a room"]), 3, 0)
    ticks = []
    painter.paint(Off(), jobs, advance=ticks.append)
    assert [tick for tick in ticks if tick] == [1, 1, 1]
    painter.paint(Off(), jobs, advance=ticks.append)
    assert sum(ticks) == 6
