"""The claims of [SD] (arXiv 2403.08381) as numbers. Each function computes one; ``figures`` draws them, ``report`` runs them all."""

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
    """L1 distances between the exact and the Gaussian reverse step as the step shrinks.

    Attributes:
        name: of the curve, for the legend.
        size: what shrinks: sigma_{t|s} for t < 1, alpha_s at t = 1: (M,).
        distance: L1, 0..2: (M,).
        half_width: of the 95 % interval where the distance is a Monte Carlo estimate, else zeros: (M,).
        bound: of Pinsker's inequality: (M,).
    """

    name: str
    size: np.ndarray
    distance: np.ndarray
    half_width: np.ndarray
    bound: np.ndarray

    @property
    def exponent(self) -> tuple[float, float]:
        """(slope, constant) of distance = constant * size^slope, by least squares on the smaller half of the sizes."""
        half = np.argsort(self.size)[: len(self.size) // 2]
        slope, intercept = np.polyfit(np.log(self.size[half]), np.log(self.distance[half]), 1)
        return float(slope), float(math.exp(intercept))

    @property
    def square_root_constant(self) -> float:
        """C of the propositions' C sqrt(size), for these sizes: the least that lies above Pinsker's bound, so above the distance."""
        return float((self.bound / np.sqrt(self.size)).max())

    @property
    def worst_ratio(self) -> float:
        """Largest distance / bound; below 1 where the bound, and with it the proposition, holds."""
        return float((self.distance / self.bound).max())


def proposition_1(oracle: Oracle, x_t: Tensor, t: float, sizes: Sequence[float], name: str) -> Curve:
    """Distances at one x_t and t < 1 for steps of sigma_{t|s} = ``sizes``, by quadrature."""
    return _curve(oracle, x_t, t, sizes, [_before(t, size) for size in sizes], name)


def proposition_2(oracle: Oracle, sizes: Sequence[float], name: str) -> Curve:
    """Distances at t = 1, where the step does not depend on x_1, for steps to alpha_s = ``sizes``, by quadrature."""
    return _curve(oracle, torch.zeros(oracle.shape), 1.0, sizes, [time_of_alpha(a) for a in sizes], name)


def proposition_2_monte_carlo(
    oracle: Oracle, sizes: Sequence[float], name: str, count: int, generator: torch.Generator
) -> Curve:
    """The same in any dimension, by Monte Carlo."""
    found: list[Estimate] = []
    bounds = []
    for size in sizes:
        step = oracle.transition(torch.zeros(1, *oracle.shape), time_of_alpha(size), 1.0)
        found.append(l1_monte_carlo(step, count, generator))
        bounds.append(pinsker_bound(step))
    values, widths = ([getattr(e, key) for e in found] for key in ("value", "half_width"))
    return Curve(name, *(np.array(v) for v in (sizes, values, widths, bounds)))


def _curve(oracle: Oracle, x_t: Tensor, t: float, sizes: Sequence[float], times: list[float], name: str) -> Curve:
    distance = [l1_distance(oracle, x_t, s, t) for s in times]
    bound = [pinsker_bound(oracle.transition(x_t[None], s, t)) for s in times]
    return Curve(name, *(np.array(v) for v in (sizes, distance, np.zeros(len(sizes)), bound)))


def time_of_alpha(alpha: float) -> float:
    """t with this alpha_t on the cosine path.

    Raises:
        SingDiffusionError: alpha is not within [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise SingDiffusionError(f"alpha must be within [0, 1], not {alpha}")
    return 1 - 2 / math.pi * math.asin(alpha)


def _before(t: float, sigma_ts: float) -> float:
    """s with this sigma_{t|s}: alpha_s = alpha_t / sqrt(1 - sigma_{t|s}^2); there is one for sizes up to sigma_t."""
    if not 0 < sigma_ts <= float(PATH.sigma(t)):
        raise SingDiffusionError(f"sizes must be within (0, sigma_t = {float(PATH.sigma(t)):.4g}], not {sigma_ts}")
    return time_of_alpha(float(PATH.alpha(t)) / math.sqrt(1 - sigma_ts**2))


# -- the removable singularity ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Routes:
    """How well each route finds y_bar(x, t) as t -> 1, as root mean square error relative to that of the data about its mean.

    Attributes:
        gap: 1 - t: (M,).
        error: route -> errors (M,). Routes: epsilon and score in float32 and float64, x-prediction in float32.
        to_limit: distance of y_bar(x, t) itself from its limit, the mean of the data: (M,).
    """

    gap: np.ndarray
    error: dict[str, np.ndarray]
    to_limit: np.ndarray


def routes(oracle: Oracle, gaps: Sequence[float], count: int, generator: torch.Generator) -> Routes:
    """A perfect network of each kind, its output rounded to the dtype in which it computes, then turned into y_bar."""
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
    """The end of ancestral sampling: at each time, the step's standard deviation and how far the state is from the data.

    Attributes:
        t: times (M,), falling to 0.
        std: of the step that led to t: (M,).
        distance: root mean square distance to the nearest data point, per dimension, over states: (M,).
    """

    t: np.ndarray
    std: np.ndarray
    distance: np.ndarray


def landing(oracle: Oracle, times: Sequence[float], count: int, generator: torch.Generator) -> Landing:
    """Exact ancestral sampling from t = 1 along ``times`` (falling from 1 to 0)."""
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
    """d = alpha n / sigma for latents n x n, at every timestep: by how many standard deviations of the noise the mean of a channel
    is displaced, per unit of that mean. {n: (T,)}"""
    steps = torch.arange(len(schedule))
    return {n: (schedule.alpha(steps) * n / schedule.sigma(steps)).numpy() for n in sizes}
