"""What a process trains on at a step: its share of the step's batch, with noise and dropped captions.

Everything depends on the seed, the step and a picture's place in the batch alone, so that neither the number of processes nor the
size of micro-batches, nor a run's being killed and gone on with, changes what is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.shards import LatentDataset, Plan

_DROPOUT, _NOISE = 1, 2  # streams of random numbers


@dataclass(frozen=True)
class Batch:
    """A micro-batch: latents or coefficients (B, C, ., .), token ids (B, L) a tokenizer, noise (B, C, H, W) or None, rows (B,)."""

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
        seed: of noise and caption dropout.
        dropout: share of captions replaced by ``empty``.
        empty: token ids (L,) of "", one a tokenizer.
        micro: pictures in each.
        accumulate: how many of them a process takes a step.
        rank: of this process.
        with_noise: whether x_1 is drawn.
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
        y, ids = data.read(rows)
        dropped = torch.from_numpy(drops(self.seed, step, self.plan.batch, self.dropout)[places.start : places.stop])
        ids = [torch.where(dropped[:, None], blank, row) for row, blank in zip(ids, self.empty, strict=True)]
        size = data.size_of(int(rows[0]))
        x_1 = noises((y.shape[1], *size), self.seed, step, places) if self.with_noise else None
        return Batch(y, ids, x_1, size, rows)


def drops(seed: int, step: int, batch: int, share: float) -> np.ndarray:
    """Whose caption is dropped at a step: bool (batch,)."""
    return np.random.default_rng((seed, _DROPOUT, step)).random(batch) < share


def noises(shape: tuple[int, ...], seed: int, step: int, places: range) -> Tensor:
    """Standard normal noise (len(places), *shape), float32; that of a place in a step's batch is always the same."""
    made = np.empty((len(places), *shape), np.float32)
    for row, place in zip(made, places, strict=True):
        bits = np.random.Philox(key=[seed << 32 | _NOISE, step << 32 | place])
        np.random.Generator(bits).standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(made)


def caption_counts(data: LatentDataset, most: int) -> dict[bytes, int] | None:
    """Token ids (as bytes) of the distinct captions -> how many pictures have it; None where more than ``most`` are distinct."""
    counts: dict[bytes, int] = {}
    for ids in data.all_tokens():
        for row in ids:
            key = row.tobytes()
            counts[key] = counts.get(key, 0) + 1
        if len(counts) > most:
            return None
    return counts
