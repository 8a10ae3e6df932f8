"""Many pictures as one network sees them: sums over all of them, and the features of a fair sample, taken in batch by batch.

    crowd = Crowd(extractor)
    for pictures in batches: crowd.see(pictures)             # uint8 (B, 3, H, W); any number, in any order
    statistics = crowd.statistics()

Under several processes each one sees its own share, and all get the statistics of all pictures.
"""

from __future__ import annotations

import hashlib
import heapq
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from ...errors import SingDiffusionError
from ...files import write_whole
from ..processes import everyone
from .stored import stored

KEPT = 10_000  # features for KID, precision and recall
ASYMMETRIC = 1e-5  # of the largest covariance: by how much rounding may make one differ from its mirror image
MOST = 10**12  # pictures behind statistics


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of the features of pictures, and some of the features themselves.

    Attributes:
        mean: float64 (D,).
        covariance: float64 (D, D), that of a sample.
        count: number of pictures; None: not known.
        extractor: the network of the features; None: not known.
        protocol: how pictures were prepared for it; None: not known.
        features: (K, D), of up to ``kept`` of the pictures, drawn at random, as the network returned them; None: not known.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None = None
    extractor: str | None = None
    protocol: str | None = None
    features: np.ndarray | None = None

    def save(self, file: Path) -> Path:
        """Write an .npz; mean and covariance are called ``mu`` and ``sigma``, so that pytorch-fid reads it too."""
        buffer, values = io.BytesIO(), asdict(self)
        named = {"mu": values.pop("mean"), "sigma": values.pop("covariance")}
        rest = {key: np.asarray(value) for key, value in values.items() if value is not None}
        np.savez(buffer, allow_pickle=False, **named, **rest)
        return write_whole(file, buffer.getvalue())

    @classmethod
    def load(cls, file: Path, width: int | None = None) -> Statistics:
        """Read what ``save`` wrote, or an .npz of ``mu`` and ``sigma`` as clean-fid and pytorch-fid write it.

        Other arrays in the file are not read.

        Args:
            file: the .npz.
            width: number of the network's features, which the file must have; None: any.

        Raises:
            SingDiffusionError: the file cannot be read, does not hold statistics, or those of another number of features.
        """
        with stored(file, "statistics", "an .npz of mu and sigma") as found:
            mean = found.numbers("mu", (width,))
            covariance = found.numbers("sigma", mean.shape * 2)
            off = np.abs(covariance - covariance.T).max(initial=0)
            if off > ASYMMETRIC * np.abs(covariance).max(initial=0) or (np.diag(covariance) < 0).any():
                raise found.wrong("sigma is not a covariance: it is not symmetric, or has a variance below 0")
            features = found.numbers("features", (None, len(mean))) if "features" in found else None
            count = found.whole("count", 2, MOST) if "count" in found else None
            words = {name: found.text(name) for name in ("extractor", "protocol") if name in found}
        return cls(mean, covariance, count, **words, features=features)


class Crowd:
    """Pictures seen so far: sums over all of them in float64, and the features of some.

    The features to keep are those of the ``kept`` pictures with the least digests. So they are a fair sample, whatever the number of
    pictures, their order and the number of processes; pictures that are equal to the last bit are kept or left together.

    Args:
        extractor: (B, 3, H, W) uint8 -> (B, D), with ``name``, ``num_features`` = D and ``protocol``.
        kept: most features to keep.
        which: name of the pictures in messages.
    """

    def __init__(self, extractor: nn.Module, kept: int = KEPT, which: str = "generated"):
        self.extractor, self.kept, self.which = extractor, kept, which
        device = next((weight.device for weight in extractor.parameters()), torch.device("cpu"))
        self._device = device
        sums = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
        width: Any = extractor.num_features
        self._total = torch.zeros(width, dtype=torch.float64, device=sums)
        self._outer = torch.zeros(width, width, dtype=torch.float64, device=sums)
        self._count = torch.zeros((), dtype=torch.int64, device=sums)
        self._heap: list[tuple[int, int]] = []  # (- digest, its row)
        self._rows: list[np.ndarray] = []

    @torch.no_grad()
    def see(self, pictures: Tensor) -> Tensor:
        """Take in pictures, uint8 (B, 3, H, W), and return their features (B, D).

        Raises:
            SingDiffusionError: a feature is NaN or infinite.
        """
        features = self.extractor(pictures.to(self._device))
        if not torch.isfinite(features).all():
            raise SingDiffusionError(f"{self.extractor.name} sees NaN or infinity in {self.which} pictures")
        exact = features.to(self._total.device).double()
        self._total += exact.sum(0)
        self._outer += exact.mT @ exact
        self._count += len(exact)
        for picture, row in zip(pictures.cpu().numpy(), features.cpu().numpy(), strict=True):
            self._keep(int.from_bytes(hashlib.blake2b(picture.tobytes(), digest_size=8).digest(), "big"), row)
        return features

    def _keep(self, digest: int, row: np.ndarray) -> None:
        if len(self._rows) < self.kept:
            heapq.heappush(self._heap, (-digest, len(self._rows)))
            self._rows.append(row.copy())
        elif self._heap and -digest > self._heap[0][0]:
            slot = self._heap[0][1]
            heapq.heapreplace(self._heap, (-digest, slot))
            self._rows[slot] = row.copy()

    def statistics(self) -> Statistics:
        """Return the statistics of what all processes have seen; all processes must call it.

        Raises:
            SingDiffusionError: all of them together have seen fewer than two pictures.
        """
        total, outer, count = (_summed(part) for part in (self._total, self._outer, self._count))
        n = int(count)
        if n < 2:
            raise SingDiffusionError(f"a Fréchet distance needs at least 2 {self.which} pictures, not {n}")
        mean = total / n
        covariance = (outer - n * torch.outer(mean, mean)) / (n - 1)
        features = self._gathered() if self.kept else None
        extractor: Any = self.extractor
        return Statistics(mean.numpy(), covariance.numpy(), n, extractor.name, extractor.protocol, features)

    def _gathered(self) -> np.ndarray:
        """The features with the ``kept`` least digests of all processes, in the order of the digests."""
        mine = sorted((-negative, slot) for negative, slot in self._heap)
        digests = sorted(digest for part in everyone([digest for digest, _ in mine]) for digest in part)
        last = digests[: self.kept][-1]
        parts = everyone([(digest, self._rows[slot]) for digest, slot in mine if digest <= last])
        rows = sorted((row for part in parts for row in part), key=lambda row: row[0])
        return np.stack([row for _, row in rows[: self.kept]])


def _summed(mine: Tensor) -> Tensor:
    """The sum over all processes, on the CPU."""
    whole = mine.clone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(whole)
    return whole.cpu()
