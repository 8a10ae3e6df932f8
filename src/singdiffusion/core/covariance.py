"""The covariance of the lowest DCT coefficients of x_0 given the prompt. Method ``moments`` restores it in addition to the mean.

Frequencies count as independent of each other; channels do not. A latent space spreads brightness over several channels: in the
embedded one their means correlate by up to -0.90. Channels that are drawn one by one would give colours that no picture has. So
every frequency has a C x C matrix Sigma. A network predicts its modified Cholesky factors (Pourahmadi, "Joint mean-covariance
models with applications to longitudinal data", Biometrika 1999),

    z = M (c - mu),   z_i ~ N(0, d_i) independent,   d = FLOOR + exp(l),   M unit lower triangular,   Sigma = M^-1 diag(d) M^-T.

l and the entries of M below its diagonal may be any numbers, and the likelihood needs no inverse. ``factors`` holds both: the C
channels of l first, then the C (C - 1) / 2 entries of M, row by row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import SingDiffusionError

FLOOR = 0.005**2
"""Least variance of an amplitude (a coefficient divided by sqrt(H W)).

In SD-1.5's first state, where alpha sqrt(H W) = 4.4, its standard deviation is 4.4 * 0.005 = 2 % of the noise's: smaller ones make
no visible difference. The floor also keeps the likelihood of memorised prompts from growing without bound in training.
"""


def factor_count(channels: int) -> int:
    """Return the numbers per frequency: C values of l and C (C - 1) / 2 entries of M below its diagonal."""
    return channels * (channels + 1) // 2


def log_variances(factors: Tensor) -> Tensor:
    """Return log d, shape (B, C, k, k), of ``factors``, shape (B, C (C + 1) / 2, k, k).

    Raises:
        SingDiffusionError: the second dimension of ``factors`` is not C (C + 1) / 2 for any C.
    """
    free = factors[:, : _channels(factors)]
    return torch.logaddexp(free, torch.full_like(free, math.log(FLOOR)))


def whitened(difference: Tensor, factors: Tensor) -> Tensor:
    """Return d^(-1/2) M (c - mu), whose entries are independent and N(0, 1) if the factors are right.

    Args:
        difference: c - mu, shape (B, C, k, k).
        factors: shape (B, C (C + 1) / 2, k, k).

    Returns:
        Shape (B, C, k, k).
    """
    mixed = torch.einsum("bhwij,bjhw->bihw", _unit_lower(factors), difference)
    return mixed * (-0.5 * log_variances(factors)).exp()


def from_factors(factors: Tensor) -> Tensor:
    """Return Sigma of every frequency, shape (B, k, k, C, C), of factors, shape (B, C (C + 1) / 2, k, k)."""
    spread = (0.5 * log_variances(factors)).exp().permute(0, 2, 3, 1)
    half = torch.linalg.solve_triangular(
        _unit_lower(factors), torch.diag_embed(spread), upper=False, unitriangular=True
    )
    return half @ half.mT


def square_root(covariance: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Return the symmetric square root of noise^2 I + alpha^2 Sigma, in float64.

    Among all square roots the symmetric one changes the vectors that it is applied to least. The computation runs on the CPU,
    because the matrices are few and small.

    Args:
        covariance: Sigma, shape (..., C, C).
        noise: standard deviation of the noise; a scalar tensor, or one that broadcasts over the eigenvalues, shape (..., C).
        alpha: factor of Sigma's standard deviations, likewise.

    Returns:
        Shape (..., C, C), on the device of ``covariance``.

    Raises:
        SingDiffusionError: Sigma has NaN or infinite values, is not symmetric, or has a negative eigenvalue.
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
    """Return C of factors with C (C + 1) / 2 numbers per frequency."""
    channels = int((2 * factors.shape[1]) ** 0.5)
    if factor_count(channels) != factors.shape[1]:
        raise SingDiffusionError(f"factors must have C (C + 1) / 2 numbers per frequency, not {factors.shape[1]}")
    return channels


def _unit_lower(factors: Tensor) -> Tensor:
    """Return M of factors, shape (B, k, k, C, C)."""
    channels = _channels(factors)
    below = factors[:, channels:].permute(0, 2, 3, 1)
    rows, columns = torch.tril_indices(channels, channels, -1)
    identity = torch.eye(channels, dtype=factors.dtype, device=factors.device)
    matrix = identity.expand(*below.shape[:-1], -1, -1).clone()
    matrix[..., rows, columns] = below
    return matrix
