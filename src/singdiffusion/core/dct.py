"""The orthonormal DCT-II of pictures, its lowest frequencies only: where the brightness and the colours of a picture lie."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import SingDiffusionError


def basis(size: int, count: int, like: Tensor) -> Tensor:
    """The ``count`` lowest cosines of length ``size``, orthonormal rows: (count, size), dtype and device of ``like``.

    Row k is c_k cos(pi (2 n + 1) k / (2 size)), c_0 = sqrt(1 / size), c_k = sqrt(2 / size).

    Raises:
        SingDiffusionError: count is not within 1..size.
    """
    if not 1 <= count <= size:
        raise SingDiffusionError(f"count of frequencies must be within 1..{size}, the size of the picture, not {count}")
    n = torch.arange(size, dtype=torch.float64)
    k = torch.arange(count, dtype=torch.float64)[:, None]
    rows = torch.cos(math.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows.to(like.device, like.dtype)


def low_frequencies(x: Tensor, count: int) -> Tensor:
    """The count x count lowest DCT coefficients of each channel: (..., H, W) -> (..., count, count).

    Coefficient (0, 0) of an n x n channel is n times its mean.

    Raises:
        SingDiffusionError: count is not within 1 and the lesser of H and W.
    """
    return basis(x.shape[-2], count, x) @ x @ basis(x.shape[-1], count, x).T


def from_low_frequencies(coefficients: Tensor, height: int, width: int) -> Tensor:
    """The picture (..., H, W) that has these lowest DCT coefficients (..., k, k) and no others."""
    rows, columns = coefficients.shape[-2:]
    return basis(height, rows, coefficients).T @ coefficients @ basis(width, columns, coefficients)
