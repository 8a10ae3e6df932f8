"""The lowest frequencies of the orthonormal DCT-II of pictures. They hold a picture's brightness and its large areas of colour."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ..errors import SingDiffusionError


def basis(size: int, count: int, like: Tensor) -> Tensor:
    """Return the ``count`` lowest cosines of length ``size`` as orthonormal rows.

    Row k is c_k cos(pi (2 n + 1) k / (2 size)) for n = 0..size-1, with c_0 = sqrt(1 / size) and otherwise c_k = sqrt(2 / size).

    Args:
        size: height or width of the picture.
        count: number of frequencies, within 1..size.
        like: tensor whose dtype and device the result has.

    Returns:
        Shape (count, size). It is kept for the next call: do not change it in place.

    Raises:
        SingDiffusionError: count is not within 1..size.
    """
    if not 1 <= count <= size:
        raise SingDiffusionError(f"count of frequencies must be within 1..{size}, the size of the picture, not {count}")
    # a tensor that was made in inference mode could not be used in training later
    make = _basis.__wrapped__ if torch.is_inference_mode_enabled() else _basis
    return make(size, count, like.device, like.dtype)


# A first step needs six of them: on a GPU, computing and uploading them took a fifth of the decoder's step (docs/gpu.md).
@functools.lru_cache(maxsize=64)
def _basis(size: int, count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    n = torch.arange(size, dtype=torch.float64, device="cpu")
    k = torch.arange(count, dtype=torch.float64, device="cpu")[:, None]
    rows = torch.cos(math.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows.to(device, dtype)


def low_frequencies(x: Tensor, count: int) -> Tensor:
    """Return the lowest DCT coefficients of each channel, shape (..., count, count), of pictures, shape (..., H, W).

    Coefficient (0, 0) of an n x n channel is n times its mean.

    Raises:
        SingDiffusionError: count is below 1, or above H or W.
    """
    return basis(x.shape[-2], count, x) @ x @ basis(x.shape[-1], count, x).T


def from_low_frequencies(coefficients: Tensor, height: int, width: int) -> Tensor:
    """Return the pictures, shape (..., height, width), whose DCT has these lowest coefficients and zeros elsewhere.

    Args:
        coefficients: shape (..., k, k), or (..., rows, columns) where the picture is narrower than k.
        height: at least the number of rows.
        width: at least the number of columns.

    Raises:
        SingDiffusionError: height or width is too small.
    """
    rows, columns = coefficients.shape[-2:]
    return basis(height, rows, coefficients).T @ coefficients @ basis(width, columns, coefficients)
