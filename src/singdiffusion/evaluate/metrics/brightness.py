"""How bright pictures are: mean luma, its spread with an interval, and the distance between two sets of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import SingDiffusionError
from ...painting.luma import mean_lumas
from ..processes import everyone

RESAMPLES = 9999


@dataclass(frozen=True)
class Brightness:
    """Brightness of the pictures of one prompt.

    Attributes:
        mean_lumas: mean luma of each picture, 0..255.
        histogram: share of all pixels in each of 32 equal parts of 0..255.
    """

    mean_lumas: tuple[float, ...]
    histogram: tuple[float, ...]

    @classmethod
    def of(cls, mean_lumas: Sequence[float], counts: np.ndarray) -> Brightness:
        """Make one from mean lumas, and counts of pixels (32,) as ``painting.luma.histogram`` returns them.

        Raises:
            SingDiffusionError: there are no pictures.
        """
        if len(mean_lumas) == 0:
            raise SingDiffusionError("the brightness of no pictures is not defined")
        return cls(tuple(map(float, mean_lumas)), tuple(float(share) for share in counts / counts.sum()))

    @property
    def mean(self) -> float:
        """Mean over pictures of their mean luma, 0..255."""
        return float(np.mean(self.mean_lumas))

    @property
    def std(self) -> float:
        """Standard deviation over pictures, that of the population (0 for one picture)."""
        return float(np.std(self.mean_lumas))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean by the percentile bootstrap, with a fixed seed; None for a single picture."""
        if len(self.mean_lumas) < 2:
            return None
        from scipy.stats import bootstrap

        found = bootstrap(
            (np.array(self.mean_lumas),),
            np.mean,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        return float(found.low), float(found.high)

    def as_json(self) -> dict[str, Any]:
        """Return every figure; the keys are documented in docs/evaluate.md."""
        return {
            "pictures": len(self.mean_lumas),
            "mean_luma": self.mean,
            "mean_luma_std": self.std,
            "interval": self.interval,
            "histogram": list(self.histogram),
            "mean_lumas": list(self.mean_lumas),
        }


class Lumas:
    """Mean lumas of pictures, one number per picture, taken in batch by batch."""

    def __init__(self) -> None:
        self._seen: list[np.ndarray] = []

    def see(self, pictures: Tensor) -> None:
        """Take in pictures, uint8 (B, 3, H, W)."""
        self._seen.append(mean_lumas(pictures))

    def values(self) -> np.ndarray:
        """Return the mean lumas of all processes, 0..255, sorted: float64 (N,); all processes must call it."""
        return np.sort(np.concatenate([np.empty(0), *(row for part in everyone(self._seen) for row in part)]))


def brightness_distance(real: Sequence[float] | np.ndarray, generated: Sequence[float] | np.ndarray) -> float:
    """Return the Wasserstein-1 distance between the distributions of mean lumas, in luma levels 0..255.

    Raises:
        SingDiffusionError: one of them has no pictures.
    """
    from scipy.stats import wasserstein_distance

    for which, each in (("real", real), ("generated", generated)):
        if len(each) == 0:
            raise SingDiffusionError(f"there are no {which} pictures, and their brightness is not defined")
    return float(wasserstein_distance(real, generated))
