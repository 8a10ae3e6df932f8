"""How far generated pictures are from real ones, on the features of a network: Fréchet distance, KID, precision and recall.

    real, generated = Crowd(extractor), Crowd(extractor)     # metrics.crowd: each sees its pictures, batch by batch
    found = compare(real.statistics(), generated.statistics())

Sources, by the marks that stand below:

- [FID] Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
  Equilibrium", NeurIPS 2017, arXiv 1706.08500.
- [KID] Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018, arXiv 1801.01401.
- [PR] Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS 2019,
  arXiv 1904.06991.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import SingDiffusionError
from .crowd import Crowd, Statistics
from .features import BATCH, INCEPTION

ENOUGH = 10_000  # pictures; with fewer the Fréchet distance is biased [FID]
NEIGHBOURS = 3  # [PR]
SUBSETS, SUBSET = 100, 1000  # of KID, as everywhere
SAME = 1e-6  # of the longest feature vector: distances that differ by less differ by rounding only


@dataclass(frozen=True)
class Fidelity:
    """How far a set of generated pictures is from real ones.

    Attributes:
        frechet: |mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)) [FID].
        kernel: unbiased squared MMD with the kernel (x y / D + 1)^3, mean over subsets [KID]; it can be negative. None where no features
            of the real pictures are known, as are the next three.
        kernel_std: its standard deviation over subsets.
        precision: share of generated pictures that are nearer to a real one than its third neighbour is [PR].
        recall: the same with the roles exchanged.
        pictures: number of generated pictures; None: not known.
        real_pictures: number of real pictures; None: not known.
        compared: features of each side behind precision and recall.
        extractor: the network of the features.
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
        """Name of the distance: FID stands for the features of one network only."""
        return "FID" if self.extractor == INCEPTION else "Fréchet distance"

    def as_json(self) -> dict[str, Any]:
        """Return every figure; the keys are documented in docs/evaluate.md."""
        return asdict(self) | {"title": self.title, "warnings": list(self.warnings)}


def compare(real: Statistics, generated: Statistics) -> Fidelity:
    """Return every figure that follows from the statistics of real and of generated pictures.

    Raises:
        SingDiffusionError: their features are of different networks, or of pictures that were resized in different ways.
    """
    _require_same(real, generated)
    kernel, spread, precision, recall, compared = None, None, None, None, 0
    if real.features is not None and generated.features is not None:
        ours, theirs = (torch.from_numpy(each.features).double() for each in (real, generated))
        compared = min(len(ours), len(theirs))
        if compared > 1:
            kernel, spread = kernel_distance(ours, theirs)
        if compared > NEIGHBOURS:  # the first ones of a fair sample are a fair sample
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
                "compare it only with distances of as many pictures"
            )
    if real.count is not None and generated.count is not None and real.count != generated.count:
        yield f"{generated.count:,} generated pictures against {real.count:,} real ones"
    if real.extractor is None:
        yield "the real pictures' statistics do not name their network, resizing and number of pictures"
    if real.features is None:
        yield "the real pictures' statistics hold no features: no KID, no precision and recall"


def frechet_distance(real: Statistics, generated: Statistics) -> float:
    """Return the Fréchet distance between two normal distributions [FID], by torchmetrics, in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_Identity(len(real.mean)), sync_on_compute=False)
    metric.orig_dtype = torch.float64
    for name, each in (("real", real), ("fake", generated)):
        n = each.count or 2  # a sample of any size with this mean and covariance has the same distance
        mean, covariance = torch.from_numpy(each.mean), torch.from_numpy(each.covariance)
        setattr(metric, f"{name}_features_sum", n * mean)
        setattr(metric, f"{name}_features_cov_sum", (n - 1) * covariance + n * torch.outer(mean, mean))
        setattr(metric, f"{name}_features_num_samples", torch.tensor(n))
    return float(_quietly(metric.compute))


def kernel_distance(real: Tensor, generated: Tensor) -> tuple[float, float]:
    """Return the kernel distance [KID] by torchmetrics: its mean and standard deviation over subsets.

    There are 100 subsets of up to 1,000 features, drawn with a fixed seed; a single one where all features fit into it.

    Args:
        real: (N, D), N > 1.
        generated: (M, D), M > 1.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(SUBSET, len(real), len(generated))
    subsets = 1 if size == len(real) == len(generated) else SUBSETS
    metric = _quietly(
        lambda: KernelInceptionDistance(
            _Identity(real.shape[1]), subsets=subsets, subset_size=size, sync_on_compute=False
        )
    )
    metric.update(real, real=True)
    metric.update(generated, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torchmetrics draws on the CPU only
        mean, std = metric.compute()
    return float(mean), float(std)


def precision_recall(real: Tensor, generated: Tensor, k: int = NEIGHBOURS, rows: int = 1024) -> tuple[float, float]:
    """Return precision and recall ([PR] equation 2).

    Precision is the share of generated points that lie in a ball around a real point which reaches to its k-th neighbour. Recall is
    the same with the roles exchanged.

    Args:
        real: float64 (N, D), N > k.
        generated: float64 (M, D), M > k.
        rows: points whose distances are in memory at once.
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


class _Identity(nn.Module):
    """Returns features that are computed already, because torchmetrics wants a network."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _quietly(work: Any) -> Any:
    """Call ``work`` without torchmetrics' warnings that KID needs memory and that a FID was not updated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return work()


class FrechetDistance:
    """The Fréchet distance of sets of pictures from one set of real pictures, all in memory.

    Args:
        real: uint8 (N, 3, H, W), read once.
        extractor: (B, 3, H, W) uint8 -> (B, D), with ``name``, ``num_features`` = D and ``protocol``.

    Raises:
        SingDiffusionError: there are fewer than two pictures.
    """

    def __init__(self, real: Tensor, extractor: nn.Module):
        self._extractor = extractor
        self._real = self._statistics(real, "real")

    def __call__(self, generated: Tensor) -> float:
        """Return the distance of generated pictures, uint8 (N, 3, H, W); compare only distances of equal N."""
        return frechet_distance(self._real, self._statistics(generated, "generated"))

    def _statistics(self, pictures: Tensor, which: str) -> Statistics:
        crowd = Crowd(self._extractor, kept=0, which=which)
        for part in pictures.split(BATCH):
            crowd.see(part)
        return crowd.statistics()
