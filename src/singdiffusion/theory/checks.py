"""The claims of [SD] as numbers. Each function computes one; ``figures`` draws them, ``report`` runs them all.

[SD] is Zhang, Yin, Li and Xie, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR 2024,
arXiv 2403.08381.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..core.schedule import Schedule
from ..errors import SingDiffusionError
from .distance import Estimate, l1_distance, l1_monte_carlo, pinsker_bound
from .oracle import DIRECT, Oracle
from .path import PATH

# -- Propositions 1 and 2 ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """L1 distances between the exact and the Gaussian reverse step as the step shrinks. All arrays have shape (M,).

    Attributes:
        name: for the legend.
        size: of the step: sigma_{t|s} for t < 1, alpha_s at t = 1.
        distance: L1, within 0..2.
        half_width: of the 95 % interval where the distance is a Monte Carlo estimate, otherwise 0.
        bound: by Pinsker's inequality.
    """

    name: str
    size: np.ndarray
    distance: np.ndarray
    half_width: np.ndarray
    bound: np.ndarray

    @property
    def exponent(self) -> tuple[float, float]:
        """Slope and constant of distance = constant * size^slope, by least squares on the smaller half of the sizes."""
        half = np.argsort(self.size)[: len(self.size) // 2]
        slope, intercept = np.polyfit(np.log(self.size[half]), np.log(self.distance[half]), 1)
        return float(slope), float(math.exp(intercept))

    @property
    def square_root_constant(self) -> float:
        """Least C for which C sqrt(size), the propositions' bound, is at or above Pinsker's bound at these sizes."""
        return float((self.bound / np.sqrt(self.size)).max())

    @property
    def worst_ratio(self) -> float:
        """Largest distance / bound; below 1 where the bound holds, and with it the proposition."""
        return float((self.distance / self.bound).max())


def proposition_1(oracle: Oracle, x_t: Tensor, t: float, sizes: Sequence[float], name: str) -> Curve:
    """Return the distances at one x_t and t < 1 for steps of sigma_{t|s} = ``sizes``, by quadrature."""
    return _curve(oracle, x_t, t, sizes, [_before(t, size) for size in sizes], name)


def proposition_2(oracle: Oracle, sizes: Sequence[float], name: str) -> Curve:
    """Return the distances at t = 1 for steps to alpha_s = ``sizes``, by quadrature; they do not depend on x_1."""
    return _curve(oracle, torch.zeros(oracle.shape), 1.0, sizes, [time_of_alpha(a) for a in sizes], name)


def proposition_2_monte_carlo(
    oracle: Oracle, sizes: Sequence[float], name: str, count: int, generator: torch.Generator
) -> Curve:
    """Return the same as ``proposition_2``, in any dimension, by ``count`` Monte Carlo draws per size."""
    found: list[Estimate] = []
    bounds = []
    for size in sizes:
        step = oracle.transition(torch.zeros(1, *oracle.shape), time_of_alpha(size), 1.0)
        found.append(l1_monte_carlo(step, count, generator))
        bounds.append(pinsker_bound(step))
    values, widths = ([getattr(e, key) for e in found] for key in ("value", "half_width"))
    return Curve(name, *(np.array(v) for v in (sizes, values, widths, bounds)))


def _curve(oracle: Oracle, x_t: Tensor, t: float, sizes: Sequence[float], times: list[float], name: str) -> Curve:
    """Return the curve of steps from t to ``times``, by quadrature."""
    distance = [l1_distance(oracle, x_t, s, t) for s in times]
    bound = [pinsker_bound(oracle.transition(x_t[None], s, t)) for s in times]
    return Curve(name, *(np.array(v) for v in (sizes, distance, np.zeros(len(sizes)), bound)))


def time_of_alpha(alpha: float) -> float:
    """Return t with this alpha_t on the cosine path.

    Raises:
        SingDiffusionError: alpha is not within [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise SingDiffusionError(f"alpha must be within [0, 1], not {alpha}")
    return 1 - 2 / math.pi * math.asin(alpha)


def _before(t: float, sigma_ts: float) -> float:
    """Return s with this sigma_{t|s}, from alpha_s = alpha_t / sqrt(1 - sigma_{t|s}^2).

    Raises:
        SingDiffusionError: sigma_ts is not within (0, sigma_t].
    """
    if not 0 < sigma_ts <= float(PATH.sigma(t)):
        raise SingDiffusionError(f"sizes must be within (0, sigma_t = {float(PATH.sigma(t)):.4g}], not {sigma_ts}")
    return time_of_alpha(float(PATH.alpha(t)) / math.sqrt(1 - sigma_ts**2))


# -- the removable singularity ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Routes:
    """Errors of y_bar(x, t) by several routes as t -> 1: root mean squares, relative to the data's standard deviation.

    All arrays have shape (M,).

    Attributes:
        gap: 1 - t.
        error: route -> errors. Routes: epsilon and score in float32 and float64, x-prediction in float32.
        to_limit: distance of y_bar(x, t) itself from its limit, the mean of the data.
    """

    gap: np.ndarray
    error: dict[str, np.ndarray]
    to_limit: np.ndarray


def routes(oracle: Oracle, gaps: Sequence[float], count: int, generator: torch.Generator) -> Routes:
    """Return the errors of y_bar from a perfect network of each kind, whose output is rounded to its dtype.

    Args:
        oracle: in place of the networks.
        gaps: values of 1 - t.
        count: states x per gap.
        generator: of the states.
    """
    spread = oracle.data.sub(oracle.data.mean(0)).square().mean().sqrt()
    kinds = [("epsilon", torch.float32), ("epsilon", torch.float64), ("score", torch.float32), ("score", torch.float64)]
    labels = {(kind, dtype): f"{kind}, {str(dtype).removeprefix('torch.')}" for kind, dtype in kinds}
    errors: dict[str, list[float]] = {label: [] for label in (*labels.values(), "x-prediction, float32")}
    to_limit = []
    for gap in gaps:
        t = 1 - gap
        alpha, sigma = PATH.alpha(t), PATH.sigma(t)
        x = oracle.sample(count, t, generator)
        y = oracle(x, t)
        rms = lambda z, y=y: float((z.double() - y).square().mean().sqrt() / spread)  # noqa: E731
        for (kind, dtype), label in labels.items():
            a, s, state = alpha.to(dtype), sigma.to(dtype), x.to(dtype)
            if kind == "epsilon":
                found = (state - s * ((x - alpha * y) / sigma).to(dtype)) / a
            else:
                found = (state + s.square() * oracle.score(x, t).to(dtype)) / a
            errors[label].append(rms(found))
        errors["x-prediction, float32"].append(rms(y.float()))
        to_limit.append(rms(oracle.mean.expand_as(y)))
    return Routes(np.array(gaps), {k: np.array(v) for k, v in errors.items()}, np.array(to_limit))


# -- t = 0 ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Landing:
    """The end of ancestral sampling: the standard deviation of each step, and the distance of the states from the data.

    All arrays have shape (M,).

    Attributes:
        t: times, falling to 0.
        std: standard deviation of the step that ends at t.
        distance: root mean square over states of the distance to the nearest data point, per dimension.
    """

    t: np.ndarray
    std: np.ndarray
    distance: np.ndarray


def landing(oracle: Oracle, times: Sequence[float], count: int, generator: torch.Generator) -> Landing:
    """Return the steps of exact ancestral sampling of ``count`` states along ``times``, which fall from 1 to 0."""
    x = torch.randn(count, *oracle.shape, dtype=torch.float64, generator=generator)
    rows = []
    for t, s in pairwise(times):
        step = oracle.transition(x, s, t)
        x = step.sample_gaussian(generator).reshape(x.shape)
        nearest = torch.cdist(x.flatten(1), oracle.data, compute_mode=DIRECT).min(1).values
        rows.append((s, float(step.std[0]), float((nearest.square().mean() / oracle.data.shape[1]).sqrt())))
    return Landing(*(np.array(column) for column in zip(*rows, strict=True)))


# -- the bias ---------------------------------------------------------------------------------------------------------


def displacement(schedule: Schedule, sizes: Sequence[int]) -> dict[int, np.ndarray]:
    """Return d = alpha n / sigma of n x n latents at every timestep.

    The mean of a channel is displaced by d standard deviations of the noise per unit of that mean.

    Returns:
        n -> d, shape (T,).
    """
    steps = torch.arange(len(schedule))
    return {n: (schedule.alpha(steps) * n / schedule.sigma(steps)).numpy() for n in sizes}
