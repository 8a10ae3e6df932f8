"""Proposition 3 in numbers: the brightness of pictures whose sampling starts at 1 - eps from noise, ``mean``, ``moments`` or q.

Pictures have one channel of n x n pixels in -1..1. The exact posterior of ``theory.oracle`` takes the place of a trained model, so
all differences come from the start. From a state x at 1 - eps the exact reverse process ends in picture i with probability w_i(x).
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
    """The pictures that sampling ends in, for one way to start at 1 - eps.

    Attributes:
        mean_luma: of each picture of the data, 0..255, the same for all starts; shape (N,).
        shares: probability of each picture, shape (N,); the sum is 1.
        kl: KL divergence from q's distribution of the state's mean (its projection on the constant picture) to this start's.
        kl_low: KL divergence between the Gaussians with q's and this start's moments, in the k x k lowest frequencies.
    """

    mean_luma: np.ndarray
    shares: np.ndarray
    kl: float
    kl_low: float

    @property
    def mean(self) -> float:
        """Mean over pictures of their mean luma."""
        return float(self.shares @ self.mean_luma)

    @property
    def std(self) -> float:
        """Standard deviation over pictures of their mean luma."""
        return math.sqrt(float(self.shares @ (self.mean_luma - self.mean) ** 2))


def starts(pictures: Tensor, t: float, count: int, generator: torch.Generator) -> dict[str, Start]:
    """Return the result of every way to start at time ``t``, by its name in ``STARTS``. All use the same noises.

    Args:
        pictures: the data, shape (N, 1, n, n), in -1..1.
        t: 1 - eps.
        count: number of noises; the shares are means over them.
        generator: of the noises.

    Raises:
        SingDiffusionError: t is not within (0, 1], or count is not positive.
    """
    if not 0 < t <= 1 or count < 1:
        raise SingDiffusionError(f"t must be within (0, 1] and count positive, not {t} and {count}")
    oracle = Oracle(pictures)
    alpha, sigma = float(oracle.path.alpha(t)), float(oracle.path.sigma(t))
    data = oracle.data.unflatten(1, oracle.shape)
    variance = low_frequencies(data, FREQUENCIES).var(0, correction=0)
    noise = torch.randn(count, *oracle.shape, dtype=torch.float64, generator=generator)
    mean = oracle.mean.expand_as(noise)
    chosen = data[torch.randint(len(data), (count,), generator=generator)]
    states = {
        "off": noise,
        "mean": first_step(mean, noise, alpha, sigma),
        "moments": first_step(mean, noise, alpha, sigma, variance[0, ..., None, None].expand(count, -1, -1, -1, -1)),
        "real": alpha * chosen + sigma * noise,
    }
    mean_luma = ((data.mean((1, 2, 3)) + 1) * 127.5).numpy()
    places = (alpha * data.shape[-1] * data.mean((1, 2, 3))).numpy()
    gaussians = _low_gaussians(data, alpha, sigma)
    results = {}
    for name, (center, covariance) in gaussians.items():
        kl = 0.0 if name == "real" else kl_to_normal(places, sigma, float(center[0]), math.sqrt(covariance[0, 0]))
        kl_low = kl_of_normals(*gaussians["real"], center, covariance)
        results[name] = Start(mean_luma, oracle.weights(states[name], t).mean(0).numpy(), kl, kl_low)
    return results


def _low_gaussians(data: Tensor, alpha: float, sigma: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and covariance of each start's lowest frequencies: float64, shapes (k^2,) and (k^2, k^2).

    Args:
        data: the pictures, shape (N, 1, n, n).
        alpha: at 1 - eps.
        sigma: at 1 - eps.
    """
    low = low_frequencies(data, FREQUENCIES)
    variance = low.var(0, correction=0).flatten()
    flat = low.flatten(1)
    center = alpha * flat.mean(0)
    identity = torch.eye(flat.shape[1], dtype=torch.float64)
    return {
        "off": (0 * center, identity),
        "mean": (center, sigma**2 * identity),
        "moments": (center, torch.diag(sigma**2 + alpha**2 * variance)),
        "real": (center, sigma**2 * identity + alpha**2 * torch.cov(flat.T, correction=0)),
    }


def kl_to_normal(places: np.ndarray, sigma: float, mean: float, std: float) -> float:
    """Return KL(1/N sum_i N(places_i, sigma^2) || N(mean, std^2)), by quadrature, to 1e-6."""

    def density(z: float) -> float:
        """Density of the mixture."""
        return float(np.exp(-(((z - places) / sigma) ** 2) / 2).mean() / (sigma * math.sqrt(2 * math.pi)))

    def integrand(z: float) -> float:
        """p log(p / q)."""
        p = density(z)
        log_q = -(((z - mean) / std) ** 2) / 2 - math.log(std * math.sqrt(2 * math.pi))
        return p * (math.log(p) - log_q) if p > 0 else 0.0

    parts = intervals(places / sigma, 10.0)
    return sum(quad(integrand, a * sigma, b * sigma, limit=400, epsabs=1e-10, epsrel=1e-9)[0] for a, b in parts)


def kl_of_normals(mean: Tensor, covariance: Tensor, other_mean: Tensor, other: Tensor) -> float:
    """Return KL(N(mean, covariance) || N(other_mean, other)), in closed form, for float64 of shapes (D,) and (D, D)."""
    away = other_mean - mean
    trace = torch.linalg.solve(other, covariance).trace()
    distance = away @ torch.linalg.solve(other, away)
    return float((trace + distance - len(mean) + torch.logdet(other) - torch.logdet(covariance)) / 2)
