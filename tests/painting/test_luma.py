"""Brightness figures against closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from singdiffusion import SingDiffusionError
from singdiffusion.evaluate.digests import digest
from singdiffusion.evaluate.metrics.brightness import Brightness
from singdiffusion.painting.luma import BINS, histogram, luma_shares, lumas, mean_luma


def pictures(count, seed=0):
    return torch.randint(0, 256, (count, 3, 6, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_luma_is_that_of_the_pictures():
    from PIL import Image

    batch = pictures(4)
    one_by_one = [mean_luma(Image.fromarray(picture.permute(1, 2, 0).numpy())) for picture in batch]
    np.testing.assert_allclose(lumas(batch).mean((1, 2)), one_by_one, rtol=1e-12)


def test_every_pixel_is_in_the_histogram():
    ends = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 4, 4)
    counts = histogram(lumas(ends))
    assert counts[0] == counts[BINS - 1] == 16
    assert counts.sum() == 32


def test_shares_of_several_pictures():
    from PIL import Image

    shares = luma_shares([Image.new("RGB", (4, 2)), Image.new("RGB", (2, 2), "white"), Image.new("RGB", (2, 2))])
    assert (shares[0], shares[BINS - 1], shares.sum()) == (0.75, 0.25, 1)


@given(st.lists(st.floats(0, 255), min_size=1, max_size=20))
def test_figures(values):
    found = Brightness.of(values, np.ones(BINS))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values), abs=1e-9)
    assert sum(found.histogram) == pytest.approx(1)
    if len(values) > 1:
        assert found.interval is not None
        low, high = found.interval
        assert min(values) - 1e-9 <= low <= found.mean + 1e-9
        assert found.mean - 1e-9 <= high <= max(values) + 1e-9


def test_the_interval_is_that_of_a_mean():
    """For many independent numbers it is mean ± 1.96 standard errors; the bootstrap's own noise at 9,999 resamples is below 3 %."""
    values = np.random.default_rng(1).normal(100, 20, 400)
    found = Brightness.of(values, np.ones(BINS)).interval
    assert found is not None
    low, high = found
    half = norm.ppf(0.975) * values.std() / np.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(half, rel=0.03)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.05 * half)


def test_no_interval_of_one_picture_and_no_brightness_of_none():
    assert Brightness.of([3.0], np.ones(BINS)).interval is None
    with pytest.raises(SingDiffusionError, match="no pictures"):
        Brightness.of([], np.ones(BINS))


def test_digests_do_not_depend_on_order():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
