"""The cosine path keeps its relative accuracy up to both ends; mpmath computes the references in high precision."""

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError
from singdiffusion.theory.path import CosinePath

PATH = CosinePath()
TIMES = st.one_of(
    st.floats(0, 1),
    st.sampled_from([0.0, 1.0, 1e-300, 5e-324, 1e-16, 1 - 1e-16, 1 - 1e-10, 0.5]),
)


def near(found, expected):
    return abs(mpmath.mpf(float(found)) - expected) <= mpmath.mpf("1e-15") * abs(expected) + mpmath.mpf("1e-320")


@settings(deadline=None)
@given(TIMES)
def test_alpha_and_sigma_to_the_last_digit(t):
    with mpmath.workdps(800):
        assert near(PATH.alpha(t), mpmath.cos(mpmath.pi / 2 * mpmath.mpf(t))) or t == 1
        assert near(PATH.sigma(t), mpmath.sin(mpmath.pi / 2 * mpmath.mpf(t)))
    assert float(PATH.alpha(1.0)) == 0.0
    assert float(PATH.alpha(0.0)) == 1.0


@settings(deadline=None)
@given(TIMES, TIMES)
def test_a_steps_sigma_to_the_last_digits(a, b):
    s, t = min(a, b), max(a, b)
    if s == t:
        with pytest.raises(SingDiffusionError, match="s must be before t"):
            PATH.step(s, t)
        return
    step = PATH.step(s, t)
    with mpmath.workdps(800):
        ratio = mpmath.cos(mpmath.pi / 2 * mpmath.mpf(t)) / mpmath.cos(mpmath.pi / 2 * mpmath.mpf(s)) if t < 1 else 0
        sigma = mpmath.sqrt(1 - ratio**2)
        assert abs(mpmath.mpf(float(step.sigma)) - sigma) <= mpmath.mpf("4e-15") * sigma + mpmath.mpf("1e-320")
        assert abs(mpmath.mpf(float(step.alpha)) - ratio) <= mpmath.mpf("4e-15") * ratio


def test_beta_and_velocity_are_the_derivatives():
    for t in (0.1, 0.5, 0.9):
        h = 1e-6
        slope = float(PATH.alpha(t + h) - PATH.alpha(t - h)) / (2 * h)
        assert float(PATH.velocity(t)) == pytest.approx(-slope, rel=1e-8)
        assert float(PATH.beta(t)) == pytest.approx(math.pi * math.tan(math.pi * t / 2), rel=1e-12)
    assert float(PATH.beta(1.0)) == math.inf
    assert float(PATH.velocity(1.0)) == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("t", [-1e-9, 1.1, math.nan, math.inf])
def test_errors_name_the_time(t):
    for ask in (PATH.alpha, PATH.sigma):
        with pytest.raises(ValueError, match=r"t must be finite and within \[0, 1\]"):
            ask(t)
    with pytest.raises(ValueError, match="s must be finite"):
        PATH.step(t, torch.tensor(1.0))
