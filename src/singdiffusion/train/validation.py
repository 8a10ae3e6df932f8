"""What a module is worth on pictures that it was not trained on, and how far it is from the best that any network can do."""

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
from .losses import differences, likelihood, low_amplitudes
from .text import TextEmbedder

SEED = 20_241  # of the noise: the same at every validation
QUANTILES = {"coverage_50": 0.6745, "coverage_90": 1.6449}  # half-widths of a normal distribution's central intervals


@dataclass(frozen=True)
class Floor:
    """What no network can get below: the variance of pictures that have the same caption.

    Attributes:
        error: unbiased variance, mean over a latent's elements, of each such picture's caption; by row.
        channel_mean: the same for the means of its channels.
        captions: the rows of each caption.
    """

    error: dict[int, float] = field(default_factory=dict)
    channel_mean: dict[int, float] = field(default_factory=dict)
    captions: list[list[int]] = field(default_factory=list)


def floor(data: LatentDataset, rows: np.ndarray) -> Floor:
    """Of the captions that occur at least twice among these rows (with pictures of one size).

    E|f - y|^2 = |f - E[y|p]|^2 + Var(y|p), so a prediction's error less this is how far it is from the best constant per prompt.
    """
    groups: dict[tuple[str, bytes], list[int]] = {}
    for row in rows:
        _, ids = data.read(np.array([row]))
        key = data.group_of(int(row)), torch.cat(ids, 1).numpy().tobytes()
        groups.setdefault(key, []).append(int(row))
    least = Floor()
    for members in groups.values():
        if len(members) > 1:
            y = _latents(data, np.array(members))
            spread, means = float(y.var(0).mean()), float(y.mean((2, 3)).var(0).mean())
            least.error.update(dict.fromkeys(members, spread))
            least.channel_mean.update(dict.fromkeys(members, means))
            least.captions.append(members)
    return least


def _latents(data: LatentDataset, rows: np.ndarray) -> Tensor:
    """Latents (B, C, H, W) of rows of one group; of low-frequency shards those with nothing above."""
    y, _ = data.read(rows)
    return y if data.low_frequency is None else from_low_frequencies(y, *data.size_of(int(rows[0])))


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    model: Any,
    embed: TextEmbedder,
    data: LatentDataset,
    rows: np.ndarray,
    least: Floor,
    options: Validation,
    needs_noise: bool,
) -> dict[str, float]:
    """Figures on held-out rows, the same whatever the number of processes. Every process must call this; the main one's count.

    Args:
        model: an ``Objective``, as the accelerator prepared it.
        least: of ``floor``; used on the main process only.
        needs_noise: whether the network takes x_1.

    Returns:
        ``loss``: mean squared error of y_bar against the latents. ``channel_mean``: of the channels' means, on which brightness
        depends. ``excess`` and ``channel_mean_excess``: the same less ``floor``, over the ``repeated`` share of pictures whose caption
        occurs again, each with its standard error ``..._error``; it may come out below 0 by that. ``over_noise``: standard
        deviation of the output over x_1 relative to its size, 0 for the exact minimiser.
        For ``moments`` also ``likelihood`` (negative log, a coefficient), ``dispersion``: the mean square of a coefficient's distance
        from its mean over the variance that was told, 1 if that is right, and the coverage of its central intervals, which is that of
        the normal distribution only as far as the data are normal.
    """
    # networks that are cut up over processes need all of these for every picture
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
    figures["repeated"] = len(least.error) / len(everything)
    if least.error:
        figures |= _excess(found, least, "error", "excess")
        figures |= _excess(found, least, "channel_mean", "channel_mean_excess")
    figures["over_noise"] = float(np.sqrt(mean("variance", everything) / max(mean("power", everything), 1e-12)))
    for key in ("likelihood", "dispersion", *QUANTILES):
        if key in found[everything[0]]:
            figures[key] = mean(key, everything)
    return figures


def _excess(found: dict[int, dict[str, float]], least: Floor, key: str, name: str) -> dict[str, float]:
    """Mean error over the floor, and its standard error: captions, not pictures, are what is independent."""
    floors = getattr(least, key)
    over = np.array([sum(found[row][key] - floors[row] for row in rows) for rows in least.captions])
    return {name: float(over.sum() / len(floors)), f"{name}_error": float(np.sqrt(np.square(over).sum()) / len(floors))}


def _parts(data: LatentDataset, rows: np.ndarray, batch: int) -> list[np.ndarray]:
    """Batches of rows of one size."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(data.group_of(int(row)), []).append(int(row))
    return [np.array(g[i : i + batch]) for g in groups.values() for i in range(0, len(g), batch)]


def _measured(
    accelerator: Accelerator, model: Any, embed: TextEmbedder, data: LatentDataset, rows: np.ndarray, draws: int
) -> list[tuple[int, dict[str, float]]]:
    """(row, figures) of a batch."""
    _, ids = data.read(rows)
    y, size = _latents(data, rows), data.size_of(int(rows[0]))
    drawn = [torch.cat([noises(y.shape[1:], SEED, int(r), range(d, d + 1)) for r in rows]) for d in range(draws)]
    with accelerator.autocast():
        text = embed(ids).to(accelerator.device)
        said = [model(None, None if x_1 is None else x_1.to(accelerator.device), text, size) for x_1 in drawn or [None]]
    outputs = torch.stack([y_bar.float().cpu() for y_bar, _ in said]).double()
    mean = outputs.mean(0)
    variance = outputs.var(0) if len(outputs) > 1 else torch.zeros_like(mean)
    figures = {
        "error": (outputs[0] - y).square().mean((1, 2, 3)),
        "channel_mean": (outputs[0] - y).mean((2, 3)).square().mean(1),
        "variance": variance.mean((1, 2, 3)),
        "power": mean.square().mean((1, 2, 3)),
    }
    if said[0][1] is not None:
        factors = said[0][1].double().cpu()
        away = differences(low_amplitudes(mean, factors.shape[-1], size), factors, y.double(), size)
        figures["likelihood"] = likelihood(whitened(away, factors), factors).mean((1, 2, 3))
        spread = from_factors(factors).diagonal(dim1=-2, dim2=-1).sqrt().permute(0, 3, 1, 2)
        figures["dispersion"] = (away / spread).square().mean((1, 2, 3))
        figures |= {name: (away.abs() < half * spread).double().mean((1, 2, 3)) for name, half in QUANTILES.items()}
    return [(int(row), {k: float(v[i]) for k, v in figures.items()}) for i, row in enumerate(rows)]
