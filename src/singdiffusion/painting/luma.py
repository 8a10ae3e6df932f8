"""How bright pictures are: mean greys, their spread with an interval, histograms, and the distance of two crowds of them."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
BINS = 32


def lumas(pictures: Tensor) -> np.ndarray:
    """Luma 0..255 of every pixel: uint8 (B, 3, H, W) -> float64 (B, H, W)."""
    return np.einsum("bchw,c->bhw", pictures.numpy().astype(np.float64), LUMA)


def mean_luma(image: Image.Image) -> float:
    """Return the mean luma of a picture, Rec. 601, 0..255, in full precision (not through 8-bit greys)."""
    return float((np.asarray(image.convert("RGB"), np.float64) @ LUMA).mean())


def histogram(values: np.ndarray) -> np.ndarray:
    """How many lumas are in each of 32 equal parts of 0..255: int64 (32,)."""
    return np.histogram(values, bins=BINS, range=(0, 255.001))[0]
