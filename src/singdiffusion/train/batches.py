"""The share that one process trains on at a step: pictures, each with one of its captions or none, and noise.

Everything depends only on the seed, the step and a picture's place in the batch; the choice among its captions, on the seed, the epoch
and the picture. So a run sees the same with any number of processes
and any size of micro-batches, and after it has been killed and resumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.shards import LatentDataset, Plan
from ..memory import require_memory
from .config import Config

_DROPOUT, _NOISE, _CAPTION = 1, 2, 3  # streams of random numbers


@dataclass(frozen=True)
class Batch:
    """A micro-batch.

    Attributes:
        y: latents (B, C, H, W), or their lowest DCT coefficients (B, C, K, K).
        ids: token ids (B, L), one tensor per tokenizer.
        x_1: noise (B, C, H, W), or None for a decoder.
        size: H, W.
        rows: numbers of the pictures, (B,).
    """

    y: Tensor
    ids: list[Tensor]
    x_1: Tensor | None
    size: tuple[int, int]
    rows: np.ndarray


@dataclass
class MicroBatches(Dataset):
    """The micro-batches of one process, by number: ``accumulate`` of them make a step.

    Attributes:
        plan: the pictures of each step.
        seed: of noise, caption dropout and the choice among a picture's captions.
        dropout: share of captions replaced by ``empty``.
        empty: token ids (L,) of "", one tensor per tokenizer.
        micro: pictures in each micro-batch.
        accumulate: micro-batches per step and process.
        rank: number of this process.
        with_noise: whether to draw x_1.
    """

    plan: Plan
    seed: int
    dropout: float
    empty: list[Tensor]
    micro: int
    accumulate: int
    rank: int
    with_noise: bool

    def __getitem__(self, number: int) -> Batch:
        step, part = divmod(number, self.accumulate)
        start = (self.rank * self.accumulate + part) * self.micro
        places = range(start, start + self.micro)
        rows = self.plan.rows(step)[start : start + self.micro]
        data = self.plan.data
        captions = drawn_captions(self.seed, self.plan.epoch_of(step), rows, data.captions_of(rows))
        y, ids = data.read(rows, captions)
        dropped = torch.from_numpy(drops(self.seed, step, self.plan.batch, self.dropout)[places.start : places.stop])
        ids = [torch.where(dropped[:, None], blank, row) for row, blank in zip(ids, self.empty, strict=True)]
        size = data.size_of(int(rows[0]))
        x_1 = noises((y.shape[1], *size), self.seed, step, places) if self.with_noise else None
        return Batch(y, ids, x_1, size, rows)


def drawn_captions(seed: int, epoch: int, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which of its captions each picture has in an epoch, drawn uniformly: int64 (B,), below ``counts``.

    The draw of a picture depends only on the seed, the epoch and its row.

    Args:
        rows: numbers of the pictures, (B,).
        counts: number of captions of each, (B,).
    """
    bits = _mixed(np.array([seed << 32 | _CAPTION], np.uint64))
    bits = _mixed(_mixed(bits ^ np.uint64(epoch)) ^ np.asarray(rows, np.uint64))
    return (np.ldexp((bits >> np.uint64(11)).astype(np.float64), -53) * counts).astype(np.int64)


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Return the next output of SplitMix64 (Steele, Lea and Flood 2014) from each state: uint64 (B,), modulo 2 ** 64."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def drops(seed: int, step: int, batch: int, share: float) -> np.ndarray:
    """Return which captions of a step's batch are dropped: bool (batch,)."""
    return np.random.default_rng((seed, _DROPOUT, step)).random(batch) < share


def noises(shape: tuple[int, ...], seed: int, step: int, places: range) -> Tensor:
    """Return standard normal noise (len(places), *shape), float32.

    The noise of a place depends only on the seed, the step and the place.
    """
    made = np.empty((len(places), *shape), np.float32)
    for row, place in zip(made, places, strict=True):
        bits = np.random.Philox(key=[seed << 32 | _NOISE, step << 32 | place])
        np.random.Generator(bits).standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(made)


def require_memory_for_batches(config: Config, data: LatentDataset, micro: int) -> None:
    """Check that the memory suffices for what a micro-batch is made of, and for that of a validation.

    Args:
        micro: pictures that a process takes at once.

    Raises:
        SingDiffusionError: it does not suffice.
    """
    base, checked = data.manifest["base"], config.validation
    pixels = max(math.prod(map(int, name.split("x"))) for name in data.groups)
    picture = 4 * base["latent_channels"] * pixels // base["vae_scale"] ** 2
    text = 4 * sum(base["tokens"]) * base["text_width"] // len(base["tokens"])
    waiting = 1 + 2 * config.data.workers  # batches at once; each worker reads two ahead
    require_memory(waiting * micro * (2 * picture + text), f"a micro-batch of {micro:,} pictures", "micro_batch")
    together = min(checked.batch, config.data.held_out)
    draws = checked.noises if config.network.kind == "unet" else 1
    require_memory(  # noise and output in float32, then all outputs in float64
        together * (4 * draws * picture + text), f"a validation of {together:,} pictures at once", "validation.batch"
    )


def caption_counts(data: LatentDataset, most: int) -> dict[bytes, int] | None:
    """Return how often each distinct caption occurs, by the bytes of its token ids; None for more than ``most`` captions."""
    counts: dict[bytes, int] = {}
    for ids in data.all_tokens():
        for row in ids:
            key = row.tobytes()
            counts[key] = counts.get(key, 0) + 1
        if len(counts) > most:
            return None
    return counts
