"""L1 distances against brute force, against each other, and against their bound."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from singdiffusion import SingDiffusionError
from singdiffusion.theory.distance import l1_distance, l1_monte_carlo, pinsker_bound
from singdiffusion.theory.oracle import Oracle

LINE = Oracle(torch.tensor([[-1.0], [0.2], [1.0]]))
X_T = torch.tensor([0.3])


def brute_force(oracle, x_t, s, t):
    """Return the distance by the trapezoid rule on two million points."""
    step = oracle.transition(x_t[None], s, t)
    means = (step.keep[0] * x_t.double() + step.take[0] * step.data)[:, 0].numpy()
    std, weights = float(step.std[0]), step.weights[0].numpy()
    x = np.linspace(means.min() - 12 * std, means.max() + 12 * std, 2_000_001)
    normal = lambda m: np.exp(-(((x - m) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))  # noqa: E731
    exact = sum(w * normal(m) for w, m in zip(weights, means, strict=True))
    return trapezoid(np.abs(exact - normal(weights @ means)), x)


@pytest.mark.parametrize(("s", "t"), [(0.05, 0.5), (0.4, 0.5), (0.499, 0.5), (0.3, 0.95), (0.1, 1.0), (0.9, 1.0)])
def test_against_brute_force(s, t):
    assert l1_distance(LINE, X_T, s, t) == pytest.approx(brute_force(LINE, X_T, s, t), abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-2, 2), min_size=1, max_size=5),
    st.floats(-2, 2),
    st.floats(0.05, 0.95),
    st.floats(0.1, 0.99),
)
def test_the_distance_is_within_the_bound(points, x, t, part):
    oracle = Oracle(torch.tensor(points, dtype=torch.float64)[:, None])
    x_t, s = torch.tensor([x], dtype=torch.float64), part * t
    distance = l1_distance(oracle, x_t, s, t)
    assert -1e-12 <= distance <= 2 + 1e-12
    assert distance <= pinsker_bound(oracle.transition(x_t[None], s, t)) + 1e-9


def test_distances_of_0_and_of_2():
    assert l1_distance(Oracle(torch.tensor([[0.7]])), X_T, 0.3, 0.6) == 0.0
    for s in (1e-4, 1e-5, 1e-300, 5e-324):
        assert l1_distance(LINE, X_T, s, 1.0) == pytest.approx(2, abs=1e-6), "spikes against one Gaussian between them"
        flat = Oracle(torch.cat([LINE.data, torch.full((3, 1), 0.5)], 1))
        assert l1_distance(flat, torch.zeros(2), s, 1.0) == pytest.approx(2, abs=1e-6)


def test_two_dimensions():
    """Data on a line in the plane: the other coordinate has no effect. Data on a grid: Monte Carlo."""
    flat = Oracle(torch.cat([LINE.data, torch.full((3, 1), 0.5)], 1))
    x_t = torch.tensor([0.3, 0.5 * math.cos(math.pi * 0.25)])
    expected = l1_distance(LINE, X_T, 0.3, 0.5)
    assert l1_distance(flat, x_t, 0.3, 0.5) == pytest.approx(expected, abs=1e-6)
    turned = Oracle(flat.data.flip(1))
    assert l1_distance(turned, x_t.flip(0), 0.3, 0.5) == pytest.approx(expected, abs=1e-6)
    axis = torch.tensor([-1.0, 0.0, 1.0])
    grid = Oracle(torch.cartesian_prod(axis, axis))
    x = torch.tensor([0.3, -0.2])
    estimate = l1_monte_carlo(grid.transition(x[None], 0.5, 0.6), 20_000, torch.Generator().manual_seed(0))
    assert abs(l1_distance(grid, x, 0.5, 0.6) - estimate.value) < 2 * estimate.half_width


def test_monte_carlo_intervals_cover():
    """Of 100 intervals of 95 %, between 88 and 100 contain the distance by quadrature."""
    exact = l1_distance(LINE, X_T, 0.4, 0.6)
    step = LINE.transition(X_T[None], 0.4, 0.6)
    generator = torch.Generator().manual_seed(0)
    estimates = [l1_monte_carlo(step, 500, generator) for _ in range(100)]
    assert 88 <= sum(abs(e.value - exact) <= e.half_width for e in estimates) <= 100


def test_invalid_input():
    with pytest.raises(SingDiffusionError, match="s must be above 0"):
        l1_distance(LINE, X_T, 0.0, 0.5)
    with pytest.raises(SingDiffusionError, match="1 or 2 dimensions"):
        l1_distance(Oracle(torch.zeros(2, 3)), torch.zeros(3), 0.1, 0.5)
    several = LINE.transition(torch.zeros(3, 1), 0.4, 0.5)
    for ask in (pinsker_bound, lambda step: l1_monte_carlo(step, 10, torch.Generator())):
        with pytest.raises(SingDiffusionError, match="must be of one x_t, not of 3"):
            ask(several)
        with pytest.raises(SingDiffusionError, match="s must be above 0"):
            ask(LINE.transition(torch.zeros(1, 1), 0.0, 0.5))
    with pytest.raises(SingDiffusionError, match="count must be at least 2, not 1"):
        l1_monte_carlo(LINE.transition(torch.zeros(1, 1), 0.4, 0.5), 1, torch.Generator())
