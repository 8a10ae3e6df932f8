"""Validation: a module's errors on held-out pictures, and how far they are above the least that any network can reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import Tensor

from ..core.covariance import from_factors, whitened
from ..core.dct import from_low_frequencies
from ..data.shards import LatentDataset
from .batches import noises
from .config import Validation
from .losses import deviations, likelihood, low_amplitudes
from .text import TextEmbedder

SEED = 20_241  # of the noise, which is the same at every validation
QUANTILES = {"coverage_50": 0.6745, "coverage_90": 1.6449}  # half-widths of a normal distribution's central intervals


@dataclass(frozen=True)
class Floor:
    """The errors that no network can go below: the variance of pictures that have the same caption.

    Attributes:
        error: row -> unbiased variance of the pictures with its caption, mean over a latent's elements.
        channel_mean: row -> the same for the means of the latents' channels.
        captions: the rows of each caption.
    """

    error: dict[int, float] = field(default_factory=dict)
    channel_mean: dict[int, float] = field(default_factory=dict)
    captions: list[list[int]] = field(default_factory=list)


def floor(data: LatentDataset, rows: np.ndarray) -> Floor:
    """Return the floor of the captions that occur at least twice among these rows, with pictures of one size.

    E|f - y|^2 = |f - E[y|p]|^2 + Var(y|p), so a prediction's error less its floor is its distance from the best constant per prompt.
    """
    groups: dict[tuple[str, bytes], list[int]] = {}
    for row in rows:
        _, ids = data.read(np.array([row]))
        key = data.group_of(int(row)), torch.cat(ids, 1).numpy().tobytes()
        groups.setdefault(key, []).append(int(row))
    found = Floor()
    for members in groups.values():
        if len(members) > 1:
            y = _latents(data, np.array(members))
            spread, means = float(y.var(0).mean()), float(y.mean((2, 3)).var(0).mean())
            found.error.update(dict.fromkeys(members, spread))
            found.channel_mean.update(dict.fromkeys(members, means))
            found.captions.append(members)
    return found


def _latents(data: LatentDataset, rows: np.ndarray) -> Tensor:
    """Return latents (B, C, H, W) of rows of one group; those of low-frequency shards have zeros at the other frequencies."""
    y, _ = data.read(rows)
    return y if data.low_frequency is None else from_low_frequencies(y, *data.size_of(int(rows[0])))


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    model: Any,
    embed: TextEmbedder,
    data: LatentDataset,
    rows: np.ndarray,
    lowest: Floor,
    options: Validation,
    needs_noise: bool,
) -> dict[str, float]:
    """Return figures on held-out rows, the same for any number of processes. Every process must call this; the main one's count.

    Args:
        model: an ``Objective``, as the accelerator prepared it.
        lowest: of ``floor``; used on the main process only.
        needs_noise: whether the network takes x_1.

    Returns:
        loss: mean squared error of y_bar against the latents.
        channel_mean: mean squared error of the channels' means, on which brightness depends.
        excess, channel_mean_excess: the two errors less their floor, over pictures whose caption occurs again. ``..._error`` is the
            standard error; an excess may be below 0 by about that much.
        repeated: share of these pictures.
        over_noise: standard deviation of the output over x_1, relative to its size; 0 for the exact minimiser.
        likelihood, dispersion, coverage_50, coverage_90: for ``moments`` only. The negative log-likelihood per coefficient; the
            mean of squared error over predicted variance (ideal: 1); and the share of coefficients in the central intervals of a
            normal distribution.
    """
    # a network that is cut up over processes needs all of them for every picture
    whole = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    share = rows if whole else rows[accelerator.process_index :: accelerator.num_processes]
    mine = []
    for part in _parts(data, share, options.batch):
        mine += _measured(accelerator, model, embed, data, part, options.noises if needs_noise else 0)
    found: dict[int, dict[str, float]] = dict(sorted(gather_object(mine), key=lambda pair: pair[0]))
    mean = lambda key, of: float(np.mean([found[row][key] for row in of]))  # noqa: E731
    everything = list(found)
    figures = {key: mean(key, everything) for key in ("error", "channel_mean")}
    figures["loss"] = figures.pop("error")
    figures["repeated"] = len(lowest.error) / len(everything)
    if lowest.error:
        figures |= _excess(found, lowest, "error", "excess")
        figures |= _excess(found, lowest, "channel_mean", "channel_mean_excess")
    figures["over_noise"] = float(np.sqrt(mean("variance", everything) / max(mean("power", everything), 1e-12)))
    for key in ("likelihood", "dispersion", *QUANTILES):
        if key in found[everything[0]]:
            figures[key] = mean(key, everything)
    return figures


def _excess(found: dict[int, dict[str, float]], lowest: Floor, key: str, name: str) -> dict[str, float]:
    """Return the mean error over its floor, and its standard error; captions are independent of each other, pictures are not."""
    floors = getattr(lowest, key)
    over = np.array([sum(found[row][key] - floors[row] for row in rows) for rows in lowest.captions])
    return {name: float(over.sum() / len(floors)), f"{name}_error": float(np.sqrt(np.square(over).sum()) / len(floors))}


def _parts(data: LatentDataset, rows: np.ndarray, batch: int) -> list[np.ndarray]:
    """Return batches of rows, each of pictures of one size."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(data.group_of(int(row)), []).append(int(row))
    return [np.array(g[i : i + batch]) for g in groups.values() for i in range(0, len(g), batch)]


def _measured(
    accelerator: Accelerator, model: Any, embed: TextEmbedder, data: LatentDataset, rows: np.ndarray, draws: int
) -> list[tuple[int, dict[str, float]]]:
    """Return (row, figures) of each picture of a batch."""
    _, ids = data.read(rows)
    y, size = _latents(data, rows), data.size_of(int(rows[0]))
    drawn = [torch.cat([noises(y.shape[1:], SEED, int(r), range(d, d + 1)) for r in rows]) for d in range(draws)]
    with accelerator.autocast():
        text = embed(ids).to(accelerator.device)
        on_device = lambda x_1: None if x_1 is None else x_1.to(accelerator.device)  # noqa: E731
        predicted = [model(None, on_device(x_1), text, size) for x_1 in drawn or [None]]
    outputs = torch.stack([y_bar.float().cpu() for y_bar, _ in predicted]).double()
    mean = outputs.mean(0)
    variance = outputs.var(0) if len(outputs) > 1 else torch.zeros_like(mean)
    figures = {
        "error": (outputs[0] - y).square().mean((1, 2, 3)),
        "channel_mean": (outputs[0] - y).mean((2, 3)).square().mean(1),
        "variance": variance.mean((1, 2, 3)),
        "power": mean.square().mean((1, 2, 3)),
    }
    factors = predicted[0][1]
    if factors is not None:
        figures |= _covariance_figures(y, mean, factors.double().cpu(), size)
    return [(int(row), {k: float(v[i]) for k, v in figures.items()}) for i, row in enumerate(rows)]


def _covariance_figures(y: Tensor, mean: Tensor, factors: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return likelihood, dispersion and coverage of each picture, from the predicted mean and the covariance's factors."""
    away = deviations(low_amplitudes(mean, factors.shape[-1], size), factors, y.double(), size)
    spread = from_factors(factors).diagonal(dim1=-2, dim2=-1).sqrt().permute(0, 3, 1, 2)
    return {
        "likelihood": likelihood(whitened(away, factors), factors).mean((1, 2, 3)),
        "dispersion": (away / spread).square().mean((1, 2, 3)),
        **{name: (away.abs() < half * spread).double().mean((1, 2, 3)) for name, half in QUANTILES.items()},
    }
