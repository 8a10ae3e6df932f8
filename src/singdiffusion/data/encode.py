"""Encode captioned pictures once, into what training reads: latents (or their lowest frequencies), token ids, mean lumas.

Each unit of the source becomes one file ``shard-UNIT.safetensors``, written whole or not at all. A run that resumes, and another
process that shares the work, skip the shards that exist.
"""

from __future__ import annotations

import io
import json
import math
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from ..core.dct import low_frequencies
from ..errors import SingDiffusionError
from ..files import write_whole
from ..locks import locked
from ..memory import GIB, require_memory
from ..modules.text import same_fingerprint
from ..painting.luma import lumas
from ..reading import read_json
from . import pictures
from .base import Base
from .budget import Budget
from .items import Item, Skipped, Source
from .manifest import FORMAT, SETTINGS, LatentSums, Settings, is_done, shard_file

Shape = tuple[int, int]
"""Height and width of a bucket, in pixels."""


@dataclass(frozen=True)
class Options:
    """The options that decide the content of shards; all shards of a folder have the same.

    Attributes:
        size: of the pictures, in pixels.
        buckets: keep aspect ratios, in buckets of size x size pixels in all; otherwise crop to a square in the middle.
        low_frequency: keep only this many DCT coefficients per side of the latents; None: the latents.
        smallest: skip pictures with a shorter side than this; None: half of ``size``.
    """

    size: int
    buckets: bool = False
    low_frequency: int | None = None
    smallest: int | None = None

    @property
    def shapes(self) -> list[Shape]:
        """The buckets that a picture may go to."""
        return pictures.buckets(self.size) if self.buckets else [(self.size, self.size)]


@dataclass
class _Group:
    """The pictures of one bucket, encoded."""

    latents: list[Tensor] = field(default_factory=list)
    captions: list[tuple[str, ...]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    mean_lumas: list[float] = field(default_factory=list)


@dataclass
class _Reasons:
    """(key, reason) of pictures that were skipped, and of pictures that had to be changed."""

    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


class _Picture(NamedTuple):
    """A picture, fitted to its bucket: uint8 pixels (H, W, 3)."""

    shape: Shape
    pixels: np.ndarray
    notes: tuple[str, ...]


def encode(
    source: Source,
    out: Path,
    base: Base,
    options: Options,
    *,
    batch: int = 8,
    decoders: int = 1,
    rank: int = 0,
    world: int = 1,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Encode the units of a source that are this process's share and have no shard yet, or have changed since.

    Args:
        out: folder of the shards; made by the caller.
        batch: pictures that the VAE encodes at once.
        decoders: threads that read pictures while the VAE runs.
        rank, world: the number of this process, and how many there are; process i mod world encodes unit i.
        advance: called with a unit's number when it is done.

    Raises:
        SingDiffusionError: ``out`` holds shards of other options or another base.
    """
    require_same_settings(out, base, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on large and odd files; skipped.jsonl names these
        for i, unit in enumerate(source.units()):
            if i % world != rank:
                continue
            if not is_done(source, out, unit):
                write_whole(shard_file(out, unit), _encode_unit(source, unit, base, options, batch, decoders))
            if advance is not None:
                advance(i)


@contextmanager
def alone(out: Path, rank: int = 0, world: int = 1) -> Iterator[None]:
    """Hold a folder for one share of the work; processes with the other shares of the same number may work beside it.

    Args:
        out: folder of the shards.
        rank, world: as for ``encode``.

    Raises:
        SingDiffusionError: a process that is alive does the same share, or one of another number of shares.
    """
    with locked(out, f"encode-{rank}-of-{world}"):
        for lock in sorted(out.glob(".encode-*-of-*.lock")):
            if not lock.stem.endswith(f"-of-{world}"):
                with locked(out, lock.stem.removeprefix(".")):
                    pass
        yield


def require_same_settings(out: Path, base: Base, options: Options) -> None:
    """Write the folder's settings, ``encode.json``, or compare them with those that it has.

    Raises:
        SingDiffusionError: they differ.
    """
    ours = {"format": FORMAT, "options": asdict(options), "base": base.identity()}
    file = out / SETTINGS
    if os.path.lexists(file):
        theirs = read_json(file, Settings)
        if any(out.glob(shard_file(out, "*").name)):  # otherwise nothing was encoded yet, or nothing could be used
            _require_same(out, theirs, ours)
            if theirs.get("format") == FORMAT:  # shards of other rules count as changed, and are encoded again
                return
    write_whole(file, json.dumps(ours, indent=2) + "\n")


def _require_same(out: Path, theirs: Any, ours: dict[str, Any]) -> None:
    for part in ("options", "base"):
        for key, value in ours[part].items():
            stored = theirs.get(part, {}).get(key)
            if not _same(key, stored, value) and not (part == "base" and key == "name"):
                raise SingDiffusionError(
                    f"{out} holds shards of another {part.removesuffix('s')}: {key} {stored}, not {value}; name an empty folder"
                )


def _same(key: str, theirs: Any, ours: Any) -> bool:
    """Compare two settings; fingerprints are measured, so another machine, device or dtype changes them a little."""
    if key.endswith("fingerprint") and theirs is not None:
        return same_fingerprint(ours, theirs)
    return theirs == ours


def _encode_unit(source: Source, unit: str, base: Base, options: Options, batch: int, decoders: int) -> bytes:
    """Return the bytes of a unit's shard."""
    digest = source.digest(unit)
    reasons = _Reasons()
    shard = _Shard(base, options, unit)
    waiting: dict[Shape, list[tuple[np.ndarray, Item]]] = {}
    shapes, budget = options.shapes, Budget()
    read = lambda item: _read(item, options, shapes, budget)  # noqa: E731
    for item, found in _ahead(source.items(unit), read, decoders, 4 * decoders + batch, budget.total // 2):
        if isinstance(found, str):
            reasons.skipped.append((item.key, found))
            continue
        reasons.notes += [(item.key, note) for note in (*item.notes, *found.notes)]
        row = waiting.setdefault(found.shape, [])
        row.append((found.pixels, item))
        if len(row) == batch:
            shard.add(found.shape, row)
    for shape, row in waiting.items():
        if row:
            shard.add(shape, row)
    return shard.packed(reasons, digest)


def _ahead(
    items: Iterable[Item | Skipped], work: Callable[[Any], Any], threads: int, depth: int, most: int
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, work(item)) in order; threads work on up to ``depth`` items ahead, whose files have up to ``most`` bytes in memory."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Any, Future]] = deque()
        size = 0
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            size += _in_memory(item)
            while len(waiting) >= depth or (waiting and size > most):
                first, done = waiting.popleft()
                size -= _in_memory(first)
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()


def _in_memory(item: Item | Skipped) -> int:
    """Return the bytes of a picture's file where it is in memory."""
    content = item.picture if isinstance(item, Item) else None
    return content.getbuffer().nbytes if isinstance(content, io.BytesIO) else 0


def _read(item: Item | Skipped, options: Options, shapes: list[Shape], budget: Budget) -> _Picture | str:
    """Return a picture, or the reason why it cannot be used."""
    if isinstance(item, Skipped):
        return item.reason
    smallest = options.smallest or max(1, options.size // 2)
    try:
        opened = pictures.opened(item.picture, smallest, enough=max(map(max, shapes)))
        needed = pictures.memory_to_decode(opened)
        if needed > budget.total:
            return (
                f"is too large for the memory: {opened.width} x {opened.height} needs about {needed / GIB:.2g} GiB, "
                f"and pictures may take {budget.total / GIB:.2g}"
            )
        with budget.taken(needed):
            picture, notes = pictures.decoded(opened)
            shape = pictures.nearest_bucket(picture, shapes)
            return _Picture(shape, pictures.fit(picture, *shape), notes)
    except pictures.Unusable as reason:
        return str(reason)


class _Shard:
    """The pictures of a unit, encoded as far as they have come.

    Args:
        unit: its name, for messages.
    """

    def __init__(self, base: Base, options: Options, unit: str):
        self.base, self.options, self.unit = base, options, unit
        self.groups: dict[Shape, _Group] = {}
        self.sums = LatentSums(base.vae.config.latent_channels)
        self.bytes = 0  # of the latents

    def add(self, shape: Shape, row: list[tuple[np.ndarray, Item]]) -> None:
        """Encode the pictures in ``row``, all of one shape, and empty it.

        Raises:
            SingDiffusionError: the memory does not suffice.
        """
        self._require_memory(shape, len(row))
        group = self.groups.setdefault(shape, _Group())
        rgb = torch.from_numpy(np.stack([pixels for pixels, _ in row]))
        latents = self.base.latents(rgb)
        self.sums.add_latents(latents)
        if self.options.low_frequency is not None:
            latents = low_frequencies(latents, self.options.low_frequency)
        group.latents.append(latents.half().contiguous())
        self.bytes += group.latents[-1].nbytes
        group.mean_lumas += lumas(rgb.permute(0, 3, 1, 2)).mean((1, 2)).tolist()
        group.captions += [item.captions for _, item in row]
        group.keys += [item.key for _, item in row]
        row.clear()

    def _require_memory(self, shape: Shape, count: int) -> None:
        """Check that the memory suffices for packing what there is, and on a CPU for the VAE's first layer on ``count`` pictures."""
        require_memory(2 * self.bytes, f"packing the shard {self.unit}")
        vae = self.base.vae
        if vae.device.type == "cpu":
            layer = count * math.prod(shape) * vae.config.block_out_channels[0] * vae.dtype.itemsize
            what = f"encoding {count} pictures of {shape[1]} x {shape[0]} pixels at once"
            require_memory(2 * layer, what, "batch")  # what goes into a layer, and what comes out

    def packed(self, reasons: _Reasons, digest: str) -> bytes:
        """Return a shard: tensors WHAT.HEIGHTxWIDTH, and everything else as JSON in its metadata.

        The token ids of a picture's captions follow each other. Where a picture has several, ``captions`` holds the row of each picture's
        first one, and the end: int32 (N + 1,). Otherwise row i is the caption of picture i.
        """
        tensors: dict[str, Tensor] = {}
        keys, shapes = {}, {}
        for (height, width), group in sorted(self.groups.items()):
            name = f"{height}x{width}"
            latents = tensors[f"latents.{name}"] = torch.cat(group.latents)
            for i, ids in enumerate(self.base.tokens([caption for captions in group.captions for caption in captions])):
                tensors[f"tokens{i or ''}.{name}"] = ids
            firsts = np.cumsum([0, *map(len, group.captions)])
            if firsts[-1] > len(group.captions):
                tensors[f"captions.{name}"] = torch.from_numpy(firsts.astype(np.int32))
            tensors[f"luma.{name}"] = torch.tensor(group.mean_lumas)
            keys[name], shapes[name] = group.keys, list(latents.shape[1:])
        metadata = {
            "source": digest,
            "count": sum(map(len, keys.values())),
            "captions": sum(len(captions) for group in self.groups.values() for captions in group.captions),
            "skipped": reasons.skipped,
            "notes": reasons.notes,
            "keys": keys,
            "shapes": shapes,
            "sums": self.sums.sums.tolist(),
            "products": self.sums.products.tolist(),
        }
        return save(tensors or {"empty": torch.zeros(1)}, {"singdiffusion": json.dumps(metadata)})
