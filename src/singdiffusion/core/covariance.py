"""The covariance of the lowest DCT coefficients of x_0 given the prompt, which ``moments`` restores beside the mean.

Frequencies are taken as independent of each other. Channels are not: a latent space spreads brightness over several of them (in the
embedded one their means correlate by up to -0.90), and drawn one by one they would make colours that no picture has. So there is a
C x C matrix for every frequency. A network tells it by its modified Cholesky factors (Pourahmadi, Biometrika 1999),

    z = M (c - mu),   z_i ~ N(0, d_i) independent,   d = FLOOR + exp(l),   M unit lower triangular,   Sigma = M^-1 diag(d) M^-T,

where l and M's lower part may be any numbers, and which give the likelihood without an inverse.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import SingDiffusionError

FLOOR = 0.005**2
"""Least variance of an amplitude (a coefficient over sqrt(H W)). With SD-1.5's alpha sqrt(H W) = 4.4 it is 0.8 % of the noise's: a
prompt that says its brightness is no better served by less, and training cannot run after the likelihood of what it knows by heart."""


def factor_count(channels: int) -> int:
    """Numbers a frequency: C values of l and C (C - 1) / 2 entries of M below its diagonal."""
    return channels * (channels + 1) // 2


def log_variances(factors: Tensor) -> Tensor:
    """log d of ``factors`` (B, C (C + 1) / 2, k, k): (B, C, k, k)."""
    free = factors[:, : _channels(factors)]
    return torch.logaddexp(free, torch.full_like(free, math.log(FLOOR)))


def whitened(difference: Tensor, factors: Tensor) -> Tensor:
    """d^(-1/2) M (c - mu): independent and N(0, 1) if the factors are right.

    Args:
        difference: c - mu, (B, C, k, k).
        factors: (B, C (C + 1) / 2, k, k).
    """
    mixed = torch.einsum("bhwij,bjhw->bihw", _unit_lower(factors), difference)
    return mixed * (-0.5 * log_variances(factors)).exp()


def from_factors(factors: Tensor) -> Tensor:
    """Sigma of every frequency: factors (B, C (C + 1) / 2, k, k) -> (B, k, k, C, C)."""
    spread = (0.5 * log_variances(factors)).exp().permute(0, 2, 3, 1)
    half = torch.linalg.solve_triangular(
        _unit_lower(factors), torch.diag_embed(spread), upper=False, unitriangular=True
    )
    return half @ half.mT


def square_root(covariance: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """(noise^2 I + alpha^2 Sigma)^(1/2), symmetric, of Sigma (..., C, C): the square root that changes what it is applied to least.

    ``noise`` and ``alpha`` are numbers, or broadcast over the eigenvalues (..., C). Computed in float64 on the CPU: these are a few matrices of the size of a latent's channels.

    Raises:
        SingDiffusionError: Sigma has NaN or infinite values, or is not a covariance: not symmetric, or not positive.
    """
    sigma = covariance.detach().double().cpu()
    if not torch.isfinite(sigma).all():
        raise SingDiffusionError("covariance has NaN or infinite values")
    size = sigma.abs().amax((-2, -1), keepdim=True)
    if ((sigma - sigma.mT).abs() > 1e-3 * size).any():
        raise SingDiffusionError("covariance is not symmetric")
    values, vectors = torch.linalg.eigh((sigma + sigma.mT) / 2)
    if (values < -1e-3 * size[..., 0]).any():
        raise SingDiffusionError("covariance has a negative eigenvalue")
    a, s = (x.detach().double().cpu() for x in (alpha, noise))
    values = (s.square() + a.square() * values.clamp(min=0)).sqrt()
    return (vectors * values[..., None, :] @ vectors.mT).to(covariance.device)


def _channels(factors: Tensor) -> int:
    channels = int((2 * factors.shape[1]) ** 0.5)
    if factor_count(channels) != factors.shape[1]:
        raise SingDiffusionError(f"factors must be C (C + 1) / 2 a frequency, not {factors.shape[1]}")
    return channels


def _unit_lower(factors: Tensor) -> Tensor:
    """M (B, k, k, C, C)."""
    channels = _channels(factors)
    below = factors[:, channels:].permute(0, 2, 3, 1)
    rows, columns = torch.tril_indices(channels, channels, -1)
    made = torch.eye(channels, dtype=factors.dtype, device=factors.device).expand(*below.shape[:-1], -1, -1).clone()
    made[..., rows, columns] = below
    return made
