"""How bright pictures are: mean luma, its spread with an interval, and the distance of two sets of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import SingDiffusionError
from ...painting.luma import lumas
from ..processes import everyone

RESAMPLES = 9999


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


class Lumas:
    """Mean lumas of pictures, as they come by; a number each."""

    def __init__(self) -> None:
        self._seen: list[np.ndarray] = []

    def see(self, pictures: Tensor) -> None:
        """Take uint8 (B, 3, H, W) in."""
        self._seen.append(lumas(pictures.cpu()).mean((1, 2)))

    def values(self) -> np.ndarray:
        """float64 (N,), 0..255, sorted, of all processes, on each of them; all must ask."""
        return np.sort(np.concatenate([np.empty(0), *(row for part in everyone(self._seen) for row in part)]))


def brightness_distance(real: Sequence[float] | np.ndarray, generated: Sequence[float] | np.ndarray) -> float:
    """The Wasserstein-1 distance between the distributions of mean lumas, in grey levels 0..255.

    Raises:
        SingDiffusionError: one of them has no pictures.
    """
    from scipy.stats import wasserstein_distance

    for which, each in (("real", real), ("generated", generated)):
        if len(each) == 0:
            raise SingDiffusionError(f"there are no {which} pictures, and their brightness is not defined")
    return float(wasserstein_distance(real, generated))
