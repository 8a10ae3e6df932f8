"""L1 distance between the exact reverse step p(x_s | x_t) and the single Gaussian p~(x_s | x_t), with an upper bound.

Both have the same mean. By Pinsker's inequality and the convexity of KL,

    L1^2 <= 2 KL(p || p~) <= sum_i w_i |mu_i - mu|^2 / s2.

With mu_i and s2 of ``theory.oracle``, and sd the posterior standard deviation of the data, this is

    L1 <= alpha_s sigma_{t|s} sd / (sigma_s sigma_t)      t < 1:  linear in sigma_{t|s}, so below C sqrt(sigma_{t|s})  ([SD] Proposition 1)
    L1 <= alpha_s sd / sigma_s                            t = 1:  linear in alpha_s,     so below C sqrt(alpha_s)      ([SD] Proposition 2)

[SD] is Zhang, Yin, Li and Xie, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR 2024,
arXiv 2403.08381.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr
from torch import Tensor

from ..errors import SingDiffusionError
from .oracle import Oracle, Transition


def pinsker_bound(transition: Transition) -> float:
    """Return the bound sqrt(sum_i w_i |mu_i - mu|^2) / s of the L1 distance, for a transition of one x_t.

    Raises:
        SingDiffusionError: the transition is of several x_t, or s = 0.
    """
    _require_one(transition)
    apart = transition.data - transition.weights @ transition.data
    spread = (transition.weights[0] @ apart.square().sum(1)).sqrt()
    return float(transition.take[0] * spread / transition.std[0])


def l1_distance(oracle: Oracle, x_t: Tensor, s: float, t: float) -> float:
    """Return the integral of |p - p~| over x_s for one x_t, for data of one or two dimensions: within 0..2, to about 1e-8.

    In one dimension p - p~ changes its sign at a few points. Between them the integral is a difference of normal distribution
    functions. In two dimensions the same holds along every line, and SciPy's ``quad`` integrates over the lines.

    Args:
        oracle: of data of shape (N, 1) or (N, 2).
        x_t: shape (1,) or (2,).
        s: end of the step, above 0.
        t: its start, above s and at most 1.

    Raises:
        SingDiffusionError: the data have more dimensions (see ``l1_monte_carlo``), or s = 0, where both are Diracs.
    """
    step = oracle.transition(x_t[None], s, t)
    _require_one(step)
    apart = step.data - step.weights @ step.data
    # mu_i - mu in units of s; from a million on nothing overlaps, and the limit keeps squares finite
    away = (step.take[0] * apart / step.std[0]).clamp(-1e6, 1e6).numpy()
    weights = step.weights[0].numpy()
    if away.shape[1] == 1:
        return _line(away[:, 0], weights)
    if away.shape[1] == 2:
        return _plane(away, weights)
    raise SingDiffusionError("the distance by quadrature is for 1 or 2 dimensions; l1_monte_carlo takes any")


def _require_one(transition: Transition) -> None:
    """Raise SingDiffusionError if a transition is of several x_t, or has no density."""
    if len(transition.x_t) != 1:
        raise SingDiffusionError(f"the transition must be of one x_t, not of {len(transition.x_t)}")
    if transition.std[0] == 0:
        raise SingDiffusionError("s must be above 0: at s = 0 the reverse step is a Dirac, which has no density")


def _line(away: np.ndarray, weights: np.ndarray, gaussian_weight: float = 1.0) -> float:
    """Return the integral of |sum_i w_i phi(x - a_i) - g phi(x)| over x."""
    # divided by phi(x) it is sum_i w_i exp(a_i x - a_i^2 / 2) - g, convex in x, so it has at most two zeros
    if np.abs(away).max() < 1e-12 and abs(weights.sum() - gaussian_weight) < 1e-15:
        return 0.0
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)

    def difference(x: float) -> float:
        """log(sum_i w_i exp(a_i x - a_i^2 / 2) / g), which has the same zeros."""
        exponents = log_weights + away * x - away**2 / 2
        top = exponents.max()
        return top + math.log(np.exp(exponents - top).sum()) - math.log(gaussian_weight)

    edges = _zeros(difference, away)
    cdf = lambda x: weights @ ndtr(x - away) - gaussian_weight * ndtr(x)  # noqa: E731
    values = [0.0, *(float(cdf(x)) for x in edges), float(weights.sum() - gaussian_weight)]
    return float(np.abs(np.diff(values)).sum())


def _zeros(f, away: np.ndarray) -> list[float]:
    """Return the zeros of a convex function: none, one or two."""
    reach = np.abs(away).max() + 40  # densities are 0 from 40 standard deviations on
    grid = np.linspace(-reach, reach, 64)
    values = [f(x) for x in grid]
    least = int(np.argmin(values))
    low, high = grid[max(least - 1, 0)], grid[min(least + 1, len(grid) - 1)]
    for _ in range(100):  # ternary search of a convex function
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if f(a) < f(b) else (a, high)
    bottom = (low + high) / 2
    if f(bottom) >= 0:
        return []
    ends = [(-reach, bottom), (bottom, reach)]
    return [float(brentq(f, a, b, xtol=1e-14)) for a, b in ends if f(a) * f(b) < 0]


def _plane(away: np.ndarray, weights: np.ndarray) -> float:
    """Return the integral over the first coordinate of the line integrals along the second."""

    def along(x: float) -> float:
        """Line integral at this first coordinate."""
        parts = weights * np.exp(-((x - away[:, 0]) ** 2) / 2) / math.sqrt(2 * math.pi)
        whole = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        if whole < 1e-300 or parts.sum() < 1e-300:
            return float(parts.sum() + whole)
        return _line(away[:, 1], parts, whole)

    centres = np.append(away[:, 0], 0.0)
    return sum(quad(along, *part, limit=400, epsabs=1e-9, epsrel=1e-9)[0] for part in intervals(centres, 10.0))


def intervals(centres: np.ndarray, reach: float) -> list[tuple[float, float]]:
    """Return the union of [c - reach, c + reach] as intervals, cut at the centres so that quadrature misses no peak."""
    union: list[tuple[float, float]] = []
    for low, high in sorted((c - reach, c + reach) for c in centres):
        if union and low <= union[-1][1]:
            union[-1] = (union[-1][0], max(high, union[-1][1]))
        else:
            union.append((low, high))
    cut = []
    for low, high in union:
        inside = [c for c in np.unique(centres) if low < c < high]
        kept = [low]
        for c in inside:
            if c - kept[-1] > reach / 4:  # centres that lie close together form one smooth peak
                kept.append(c)
        cut += list(pairwise([*kept, high]))
    return cut


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo mean and the half-width of its 95 % confidence interval."""

    value: float
    half_width: float


def l1_monte_carlo(transition: Transition, count: int, generator: torch.Generator) -> Estimate:
    """Return the L1 distance in any dimension, for a transition of one x_t, by ``count`` draws from (p + p~) / 2.

    It is the mean of |p - p~| / ((p + p~) / 2), which is within 0..2 everywhere. The interval assumes a normal distribution, and is
    too narrow near 2, where draws rarely hit the overlap.

    Raises:
        SingDiffusionError: the transition is of several x_t, s = 0, or count is below 2.
    """
    _require_one(transition)
    if count < 2:
        raise SingDiffusionError(f"count must be at least 2, not {count}")
    one = (transition.weights, transition.keep, transition.take, transition.std, transition.x_t)
    repeat = Transition(*(value.expand(count, *value.shape[1:]) for value in one), data=transition.data)
    exact, gaussian = repeat.sample(generator), repeat.sample_gaussian(generator)
    x_s = torch.where(torch.rand(count, 1, generator=generator) < 0.5, exact, gaussian)[None]
    ratio = transition.log_density(x_s) - transition.log_density_gaussian(x_s)
    terms = 2 * torch.tanh(ratio / 2).abs()  # |p - p~| / ((p + p~) / 2)
    return Estimate(float(terms.mean()), float(1.96 * terms.std() / math.sqrt(count)))
