"""How bright pictures are: luma of pixels (Rec. 601, 0..255), its mean over a picture, and histograms of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image
from torch import Tensor

LUMA = np.array([0.299, 0.587, 0.114])  # weights of R, G and B (Rec. 601)
BINS = 32


def lumas(pictures: Tensor) -> np.ndarray:
    """Return the luma of every pixel, 0..255: uint8 (B, 3, H, W) -> float64 (B, H, W)."""
    return np.einsum("bchw,c->bhw", pictures.numpy().astype(np.float64), LUMA)


def mean_lumas(pictures: Tensor) -> np.ndarray:
    """Return the mean luma of each picture, 0..255: uint8 (B, 3, H, W) -> float64 (B,).

    It is the luma of the mean color, which takes no memory for the lumas of all pixels.
    """
    return pictures.cpu().numpy().mean((2, 3), dtype=np.float64) @ LUMA


def pixel_lumas(image: Image.Image) -> np.ndarray:
    """Return the luma of every pixel of one picture, 0..255, in full precision: float64 (H, W)."""
    return np.asarray(image.convert("RGB"), np.float64) @ LUMA


def mean_luma(image: Image.Image) -> float:
    """Return the mean luma of a picture, 0..255, in full precision (``image.convert("L")`` would round each pixel)."""
    return float(pixel_lumas(image).mean())


def histogram(values: np.ndarray) -> np.ndarray:
    """Count the lumas in each of ``BINS`` equal parts of 0..255: any shape -> int64 (BINS,)."""
    return np.histogram(values, bins=BINS, range=(0, 255.001))[0]


def luma_shares(images: Iterable[Image.Image]) -> np.ndarray:
    """Return the share of all pixels of some pictures in each of ``BINS`` equal parts of 0..255: float64 (BINS,)."""
    counts = np.sum([histogram(pixel_lumas(image)) for image in images], axis=0)
    return counts / counts.sum()
