"""Proposition 3 in numbers: which brightness pictures get, started at 1 - eps from noise, from q itself, from ``mean``, from ``moments``.

Pictures are single-channel, n x n, in -1..1; the exact posterior of ``theory.oracle`` takes the place of a trained model, so that
every difference is due to the start. From a state x at 1 - eps the exact reverse process ends in picture i with probability w_i(x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import quad
from torch import Tensor

from ..core.dct import low_frequencies
from ..core.singular import first_step
from ..errors import SingDiffusionError
from .distance import intervals
from .oracle import Oracle

STARTS = ("off", "mean", "moments", "real")
FREQUENCIES = 4  # k of ``moments``


@dataclass(frozen=True)
class Start:
    """One way to start at 1 - eps.

    Attributes:
        greys: mean brightness (0..255) of the data, shared by all starts: (N,).
        shares: how often each picture is the end: (N,), sums to 1.
        kl: KL divergence from q's to this start's distribution of the state's mean (its projection on the constant picture).
        kl_low: the same of q's Gaussian part, in the k x k lowest frequencies, in closed form.
    """

    greys: np.ndarray
    shares: np.ndarray
    kl: float
    kl_low: float

    @property
    def mean(self) -> float:
        return float(self.shares @ self.greys)

    @property
    def std(self) -> float:
        """Standard deviation over pictures of their mean brightness."""
        return math.sqrt(float(self.shares @ (self.greys - self.mean) ** 2))


def starts(pictures: Tensor, t: float, count: int, generator: torch.Generator) -> dict[str, Start]:
    """Every way to start at time ``t``, with the same noises.

    Args:
        pictures: the data, (N, 1, n, n), in -1..1.
        t: 1 - eps.
        count: noises drawn; the shares are means over them.

    Raises:
        SingDiffusionError: t is not within (0, 1], or count is not positive.
    """
    if not 0 < t <= 1 or count < 1:
        raise SingDiffusionError(f"t must be within (0, 1] and count positive, not {t} and {count}")
    oracle = Oracle(pictures)
    alpha, sigma = float(oracle.path.alpha(t)), float(oracle.path.sigma(t))
    data = oracle.data.unflatten(1, oracle.shape)
    low = low_frequencies(data, FREQUENCIES)
    variance = low.var(0, correction=0)
    noise = torch.randn(count, *oracle.shape, dtype=torch.float64, generator=generator)
    mean = oracle.mean.expand_as(noise)
    chosen = data[torch.randint(len(data), (count,), generator=generator)]
    states = {
        "off": noise,
        "mean": first_step(mean, noise, alpha, sigma),
        "moments": first_step(mean, noise, alpha, sigma, variance[0, ..., None, None].expand(count, -1, -1, -1, -1)),
        "real": alpha * chosen + sigma * noise,
    }
    greys = ((data.mean((1, 2, 3)) + 1) * 127.5).numpy()
    centre, flat = low.flatten(1).mean(0), low.flatten(1)
    true = sigma**2 * torch.eye(flat.shape[1], dtype=torch.float64) + alpha**2 * torch.cov(flat.T, correction=0)
    places = (alpha * data.shape[-1] * data.mean((1, 2, 3))).numpy()
    made = {}
    for name in STARTS:
        centre_of, covariance = {
            "off": (0 * centre, torch.eye(len(centre), dtype=torch.float64)),
            "mean": (alpha * centre, sigma**2 * torch.eye(len(centre), dtype=torch.float64)),
            "moments": (alpha * centre, torch.diag(sigma**2 + alpha**2 * variance.flatten())),
            "real": (alpha * centre, true),
        }[name]
        kl = 0.0 if name == "real" else kl_to_normal(places, sigma, float(centre_of[0]), math.sqrt(covariance[0, 0]))
        kl_low = kl_of_normals(alpha * centre, true, centre_of, covariance)
        made[name] = Start(greys, oracle.weights(states[name], t).mean(0).numpy(), kl, kl_low)
    return made


def kl_to_normal(places: np.ndarray, sigma: float, mean: float, std: float) -> float:
    """KL(1/N sum_i N(places_i, sigma^2) || N(mean, std^2)), by quadrature to 1e-6."""

    def density(z: float) -> float:
        return float(np.exp(-(((z - places) / sigma) ** 2) / 2).mean() / (sigma * math.sqrt(2 * math.pi)))

    def integrand(z: float) -> float:
        p = density(z)
        log_q = -(((z - mean) / std) ** 2) / 2 - math.log(std * math.sqrt(2 * math.pi))
        return p * (math.log(p) - log_q) if p > 0 else 0.0

    parts = intervals(places / sigma, 10.0)
    return sum(quad(integrand, a * sigma, b * sigma, limit=400, epsabs=1e-10, epsrel=1e-9)[0] for a, b in parts)


def kl_of_normals(mean: Tensor, covariance: Tensor, other_mean: Tensor, other: Tensor) -> float:
    """KL(N(mean, covariance) || N(other_mean, other)), in closed form: float64 (D,), (D, D)."""
    away = other_mean - mean
    trace = torch.linalg.solve(other, covariance).trace()
    return float(
        (trace + away @ torch.linalg.solve(other, away) - len(mean) + torch.logdet(other) - torch.logdet(covariance))
        / 2
    )
