"""How far generated pictures are from real ones as a crowd, on what a network sees in them: Fréchet distance, KID, precision and recall.

    real, generated = Crowd(extractor), Crowd(extractor)
    for pictures in batches: real.see(pictures)             # and so the generated ones; any number, in any order
    found = compare(real.statistics(), generated.statistics())

Under several processes each sees its own share, and all get the statistics of all. Sources: [FID] Heusel et al., GANs Trained by a Two Time-Scale
Update Rule (2017); [KID] Bińkowski et al., Demystifying MMD GANs (2018); [PR] Kynkäänniemi et al., Improved Precision and Recall Metric for
Assessing Generative Models (2019).
"""

from __future__ import annotations

import hashlib
import heapq
import io
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from ...errors import SingDiffusionError
from ...files import write_whole
from ..gallery import as_tensor
from ..processes import everyone
from .features import BATCH, INCEPTION, EfficientNetLite0

__all__ = [
    "BATCH",
    "Crowd",
    "EfficientNetLite0",
    "Fidelity",
    "FrechetDistance",
    "Statistics",
    "as_tensor",
    "compare",
    "precision_recall",
]

KEPT = 10_000  # features for KID, precision and recall
ENOUGH = 10_000  # pictures, below which [FID] says that its distance is biased
NEIGHBOURS = 3  # [PR]
SUBSETS, SUBSET = 100, 1000  # of KID, as everywhere
SAME = 1e-6  # of the longest feature vector: distances that differ by less are the same but for rounding

T = TypeVar("T")


@dataclass(frozen=True)
class Statistics:
    """What is left of a crowd of pictures.

    Attributes:
        mean: float64 (D,).
        covariance: float64 (D, D), that of a sample.
        count: pictures; None: not known.
        extractor: what the features are of; None: not known.
        protocol: how pictures were prepared for it; None: not known.
        features: (K, D), of up to ``kept`` of the pictures, drawn at random, as the network gave them; None: not known.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None = None
    extractor: str | None = None
    protocol: str | None = None
    features: np.ndarray | None = None

    def save(self, file: Path) -> Path:
        """Write an .npz; ``mu`` and ``sigma`` are named so that pytorch-fid reads it too."""
        buffer, told = io.BytesIO(), asdict(self)
        named = {"mu": told.pop("mean"), "sigma": told.pop("covariance")}
        rest = {key: np.asarray(value) for key, value in told.items() if value is not None}
        np.savez(buffer, allow_pickle=False, **named, **rest)
        return write_whole(file, buffer.getvalue())

    @classmethod
    def load(cls, file: Path) -> Statistics:
        """Those that ``save`` wrote, or an .npz of ``mu`` and ``sigma`` as clean-fid and pytorch-fid write them.

        Raises:
            SingDiffusionError: the file cannot be read, or is none of these.
        """
        try:
            with np.load(file, allow_pickle=False) as stored:
                told = {key: stored[key] for key in stored.files}
            mean, covariance = (told[key].astype(np.float64) for key in ("mu", "sigma"))
        except Exception as error:  # numpy and zipfile raise many kinds
            raise SingDiffusionError(f"{file} holds no statistics: an .npz of mu and sigma is wanted") from error
        if mean.ndim != 1 or covariance.shape != mean.shape * 2:
            raise SingDiffusionError(f"{file} holds no statistics: mu is {mean.shape}, sigma {covariance.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise SingDiffusionError(f"{file} holds no statistics: NaN or infinity in mu or sigma")
        features = told.get("features")
        if features is not None and features.shape[1:] != mean.shape:
            raise SingDiffusionError(f"{file} holds no statistics: mu is {mean.shape}, features {features.shape}")
        count = int(told["count"]) if "count" in told else None
        words = {key: str(told[key]) for key in ("extractor", "protocol") if key in told}
        return cls(mean, covariance, count, **words, features=features)


@dataclass(frozen=True)
class Fidelity:
    """How far a crowd of generated pictures is from real ones.

    Attributes:
        frechet: |mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)) [FID].
        kernel: unbiased squared MMD with the kernel (x y / D + 1)^3, mean over subsets [KID]; it can be negative. None, as are the
            next three, where no features of the real pictures are known.
        kernel_std: its standard deviation over subsets.
        precision: share of generated pictures nearer to a real one than its third neighbour is [PR].
        recall: the same with the roles changed.
        pictures: how many were generated; None: not known.
        real_pictures: how many were real; None: not known.
        compared: features of each side behind precision and recall.
        extractor: what the features are of.
        protocol: how pictures were prepared for it.
        warnings: lines that belong beside these figures.
    """

    frechet: float
    kernel: float | None
    kernel_std: float | None
    precision: float | None
    recall: float | None
    pictures: int | None
    real_pictures: int | None
    compared: int
    extractor: str
    protocol: str
    warnings: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the distance may be called: FID stands for one network's features only."""
        return "FID" if self.extractor == INCEPTION else "Fréchet distance"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"title": self.title, "warnings": list(self.warnings)}


class Crowd:
    """Pictures seen so far: sums over all of them in float64, and the features of some.

    Those are drawn by a digest of the picture (the least ``kept`` are held), so that they are a fair sample of any number, in whatever order
    and by however many processes they are seen; pictures that are the same to the last bit are kept or left together.

    Args:
        extractor: (B, 3, H, W) uint8 -> (B, D), with ``name``, ``num_features`` = D and ``protocol``.
        kept: most features to hold.
        which: what the pictures are called in messages.
    """

    def __init__(self, extractor: nn.Module, kept: int = KEPT, which: str = "generated"):
        self.extractor, self.kept, self.which = extractor, kept, which
        device = next((weight.device for weight in extractor.parameters()), torch.device("cpu"))
        self._device = device
        sums = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        width: Any = extractor.num_features
        self._total = torch.zeros(width, dtype=torch.float64, device=sums)
        self._outer = torch.zeros(width, width, dtype=torch.float64, device=sums)
        self._count = torch.zeros((), dtype=torch.int64, device=sums)
        self._heap: list[tuple[int, int]] = []  # (- digest, its row)
        self._rows: list[np.ndarray] = []

    @torch.no_grad()
    def see(self, pictures: Tensor) -> Tensor:
        """Take uint8 (B, 3, H, W) in, and return their features (B, D).

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
            self._keep(int.from_bytes(hashlib.blake2b(picture.tobytes(), digest_size=8).digest()), row)
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
        """Of what all processes have seen, on each of them; all must ask.

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
        """The features of the least ``kept`` digests of all processes, in their order."""
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


def compare(real: Statistics, generated: Statistics) -> Fidelity:
    """Every figure that two crowds give.

    Raises:
        SingDiffusionError: their features are not of the same network, or not resized in the same way.
    """
    _require_same(real, generated)
    kernel, spread, precision, recall, compared = None, None, None, None, 0
    if real.features is not None and generated.features is not None:
        ours, theirs = (torch.from_numpy(each.features).double() for each in (real, generated))
        compared = min(len(ours), len(theirs))
        if compared > 1:
            kernel, spread = kernel_distance(ours, theirs)
        if compared > NEIGHBOURS:  # the first of a fair sample are one too
            precision, recall = precision_recall(ours[:compared], theirs[:compared])
    return Fidelity(
        frechet_distance(real, generated),
        kernel,
        spread,
        precision,
        recall,
        generated.count,
        real.count,
        compared,
        generated.extractor or real.extractor or "not known",
        generated.protocol or real.protocol or "not known",
        tuple(_warnings(real, generated)),
    )


def _require_same(real: Statistics, generated: Statistics) -> None:
    for what in ("extractor", "protocol"):
        one, other = getattr(real, what), getattr(generated, what)
        if one and other and one != other:
            raise SingDiffusionError(f"the {what} of the real pictures' statistics is {one!r}, not {other!r}")
    if real.mean.shape != generated.mean.shape:
        name = f" by {generated.extractor}" if generated.extractor else ""
        raise SingDiffusionError(
            f"the real pictures' statistics are of {len(real.mean)} features, and there are {len(generated.mean)}{name}"
        )


def _warnings(real: Statistics, generated: Statistics) -> Iterable[str]:
    for name, each in (("generated", generated), ("real", real)):
        if each.count is not None and each.count < ENOUGH:
            yield (
                f"{each.count:,} {name} pictures: a Fréchet distance of fewer than {ENOUGH:,} is biased; "
                "compare it with those of as many pictures only"
            )
    if real.count is not None and generated.count is not None and real.count != generated.count:
        yield f"{generated.count:,} generated pictures against {real.count:,} real ones"
    if real.extractor is None:
        yield "the real pictures' statistics do not say which network and resizing they are of, nor of how many pictures"
    if real.features is None:
        yield "the real pictures' statistics hold no features: no KID, no precision and recall"


def frechet_distance(real: Statistics, generated: Statistics) -> float:
    """[FID] of two normal distributions, by torchmetrics, in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_Given(len(real.mean)), sync_on_compute=False)
    metric.orig_dtype = torch.float64
    for name, each in (("real", real), ("fake", generated)):
        n = each.count or 2  # a sample of any size with this mean and covariance will do
        mean, covariance = torch.from_numpy(each.mean), torch.from_numpy(each.covariance)
        setattr(metric, f"{name}_features_sum", n * mean)
        setattr(metric, f"{name}_features_cov_sum", (n - 1) * covariance + n * torch.outer(mean, mean))
        setattr(metric, f"{name}_features_num_samples", torch.tensor(n))
    return float(_quietly(metric.compute))


def kernel_distance(real: Tensor, generated: Tensor) -> tuple[float, float]:
    """[KID] by torchmetrics, mean and standard deviation over 100 subsets of up to 1,000, drawn with a fixed seed; of one, where all fit into it.

    Args:
        real: (N, D), N > 1.
        generated: (M, D), M > 1.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(SUBSET, len(real), len(generated))
    subsets = 1 if size == len(real) == len(generated) else SUBSETS
    metric = _quietly(
        lambda: KernelInceptionDistance(_Given(real.shape[1]), subsets=subsets, subset_size=size, sync_on_compute=False)
    )
    metric.update(real, real=True)
    metric.update(generated, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # that of the CPU, which alone draws
        mean, std = metric.compute()
    return float(mean), float(std)


def precision_recall(real: Tensor, generated: Tensor, k: int = NEIGHBOURS, rows: int = 1024) -> tuple[float, float]:
    """[PR] eq. 2: the share of generated points in a ball around a real one that reaches to its k-th neighbour, and the reverse.

    Args:
        real: float64 (N, D), N > k.
        generated: float64 (M, D), M > k.
        rows: distances to this many points are held at once.
    """
    slack = SAME * max(float(real.norm(dim=1).max()), float(generated.norm(dim=1).max()))

    def distances(points: Tensor, centres: Tensor) -> Iterable[Tensor]:
        return (torch.cdist(part, centres) for part in points.split(rows))

    def covered(points: Tensor, centres: Tensor) -> float:
        # the nearest of all is the point itself
        radii = torch.cat([found.kthvalue(k + 1).values for found in distances(centres, centres)])
        inside = torch.cat([(found <= radii + slack).any(1) for found in distances(points, centres)])
        return float(inside.double().mean())

    return covered(generated, real), covered(real, generated)


class _Given(nn.Module):
    """Features that are there already, where a metric wants a network."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _quietly(work: Any) -> Any:
    """Without torchmetrics' remarks that KID needs memory, and that the states of a FID were not updated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return work()


class FrechetDistance:
    """The Fréchet distance of sets of pictures from one set of real ones, all in memory.

    Args:
        real: uint8 (N, 3, H, W), looked at once.
        extractor: (B, 3, H, W) uint8 -> (B, D), with ``name``, ``num_features`` = D and ``protocol``.

    Raises:
        SingDiffusionError: there are fewer than two pictures.
    """

    def __init__(self, real: Tensor, extractor: nn.Module):
        self._extractor = extractor
        self._real = self._statistics(real, "real")

    def __call__(self, generated: Tensor) -> float:
        """The distance of generated pictures (N, 3, H, W); it depends on N, and only such of equal N can be compared."""
        return frechet_distance(self._real, self._statistics(generated, "generated"))

    def _statistics(self, pictures: Tensor, which: str) -> Statistics:
        crowd = Crowd(self._extractor, kept=0, which=which)
        for part in pictures.split(BATCH):
            crowd.see(part)
        return crowd.statistics()
