"""Which of two curves is better, and where: by hand, and for any curves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError
from singdiffusion.evaluate.metrics.pareto import Curve, compare
from singdiffusion.evaluate.reports import paper
from singdiffusion.evaluate.reports.pareto import figure
from singdiffusion.plots import png, svg

number = st.floats(1, 100)


@st.composite
def curves(draw):
    count = draw(st.integers(1, 6))
    each = st.lists(number, min_size=count, max_size=count)
    return Curve("c", tuple(range(count)), tuple(draw(each)), tuple(draw(each)))


def test_least_distance_by_hand():
    """A straight line from (1, 10) to (3, 2), then back up to (4, 6)."""
    curve = Curve("c", (1, 2, 3), (1.0, 3.0, 4.0), (10.0, 2.0, 6.0))
    np.testing.assert_allclose(curve.least(np.array([0.0, 1.0, 3.0, 3.5, 4.0])), [2, 2, 2, 4, 6], atol=0.01)
    assert curve.least(np.array([4.1]))[0] == np.inf


def test_a_crossing_is_found():
    flat, falling = Curve("flat", (1, 2), (0.0, 10.0), (5.0, 5.0)), Curve("rising", (1, 2), (0.0, 10.0), (0.0, 10.0))
    found = compare(falling, flat)  # worse from text score 5 on
    assert found.share == pytest.approx(0.5, abs=0.01)
    ((low, high),) = found.worse
    assert (low, high) == pytest.approx((5, 10), abs=0.05)
    assert "better at 50% of the text scores, worse at 5.0" in str(found)


@given(curves())
def test_no_curve_is_worse_than_itself(curve):
    found = compare(curve, curve)
    assert (found.share, found.worse) == (1, ())
    assert found.gain == pytest.approx(1)


@given(curves(), st.floats(0.1, 5), st.floats(0.1, 50))
def test_a_dominating_curve_is_better_everywhere(curve, less, more):
    better = Curve(
        "b", curve.scales, tuple(t + more for t in curve.text), tuple(d / (1 + less) for d in curve.distance)
    )
    assert compare(better, curve).worse == ()
    assert compare(better, curve).gain >= 1 + 0.99 * less
    assert compare(curve, better).share < 1


def test_what_the_paper_claims_of_its_own_curve():
    """Zhang et al. (CVPR 2024): the curve as a whole is better, though at equal guidance from 5 on its FID is higher."""
    for name, both in paper.PARETO.items():
        off, on = (Curve(key, paper.GUIDANCE, *zip(*both[key], strict=True)) for key in ("off", "on"))
        assert all(a > b for a, b in zip(on.distance[4:], off.distance[4:], strict=True)), name
        found = compare(on, off)
        assert found.share > 0.9, (name, str(found))


def test_the_figure(tmp_path):
    off, on = (Curve(k, paper.GUIDANCE, *zip(*paper.PARETO["sd-1.5"][k], strict=True)) for k in ("off", "on"))
    drawn = svg(figure([off, on], "CLIP score", "FID", behind="sd-1.5"))
    assert drawn == svg(figure([off, on], "CLIP score", "FID", behind="sd-1.5"))
    assert drawn.count("read off the authors") == 2
    assert png(figure([on], "x", "y")).startswith(b"\x89PNG")
    with pytest.raises(SingDiffusionError, match="known: sd-1.5, sd-2.0-base"):
        figure([off], "x", "y", behind="sd-3")


def test_a_curve_needs_its_points():
    with pytest.raises(SingDiffusionError, match="for each of its guidance scales"):
        Curve("c", (1, 2), (1,), (2, 3))
