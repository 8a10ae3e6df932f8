"""How bright pictures are: mean greys, their spread with an interval, histograms, and the distance of two crowds of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import SingDiffusionError

LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
BINS = 32
RESAMPLES = 9999


def lumas(pictures: Tensor) -> np.ndarray:
    """Luma 0..255 of every pixel: uint8 (B, 3, H, W) -> float64 (B, H, W)."""
    return np.einsum("bchw,c->bhw", pictures.numpy().astype(np.float64), LUMA)


def histogram(values: np.ndarray) -> np.ndarray:
    """How many lumas are in each of 32 equal parts of 0..255: int64 (32,)."""
    return np.histogram(values, bins=BINS, range=(0, 255.001))[0]


@dataclass(frozen=True)
class Brightness:
    """Of the pictures of one prompt.

    Attributes:
        greys: mean luma of each picture, 0..255.
        histogram: share of all pixels in each of 32 equal parts of 0..255.
    """

    greys: tuple[float, ...]
    histogram: tuple[float, ...]

    @classmethod
    def of(cls, greys: Sequence[float], counts: np.ndarray) -> Brightness:
        if len(greys) == 0:
            raise SingDiffusionError("the brightness of no pictures is not defined")
        return cls(tuple(map(float, greys)), tuple(float(share) for share in counts / counts.sum()))

    @property
    def mean(self) -> float:
        return float(np.mean(self.greys))

    @property
    def std(self) -> float:
        """Standard deviation over pictures, that of the population."""
        return float(np.std(self.greys))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean by the percentile bootstrap, with a fixed seed; None for a single picture."""
        if len(self.greys) < 2:
            return None
        from scipy.stats import bootstrap

        found = bootstrap(
            (np.array(self.greys),), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        return float(found.low), float(found.high)

    def as_json(self) -> dict[str, Any]:
        return {
            "pictures": len(self.greys),
            "mean": self.mean,
            "std": self.std,
            "interval": self.interval,
            "histogram": list(self.histogram),
            "greys": list(self.greys),
        }
