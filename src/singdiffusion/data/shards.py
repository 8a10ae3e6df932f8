"""Read what ``encode`` wrote: any row by its number, and batches that depend only on the seed and the step.

Nothing here has a state to save. The batch of a step is computed from its number, so a run that resumes, with as many processes or
with others, sees the same pictures.
"""

from __future__ import annotations

import functools
import hashlib
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypedDict  # pydantic takes typing's only from Python 3.12 on

from ..errors import SingDiffusionError, reason
from ..reading import checked, parse_json, read_json
from .checks import require_right
from .manifest import FORMAT, MANIFEST, Count, Manifest, Positive, ShardEntry, damaged, read_metadata

MOST_OPEN = 256  # shards mapped at once; a process may open some thousand files, and a data set may have more shards
MOST_HEADER = 100_000_000  # bytes; safetensors reads no larger ones
HELD_OUT_SEED = 20_240
_IN_MEMORY = np.int64, np.float32  # of token ids and latents
_TYPES = {"F16": np.float16, "F32": np.float32, "I32": np.int32}


class LatentDataset:
    """A folder of shards, memory-mapped: its size is limited by the disk, not by the memory.

    Rows are numbered group by group (pictures of one size), and within a group shard by shard.

    Args:
        folder: what ``singdiffusion encode`` wrote.

    Raises:
        SingDiffusionError: the folder has no manifest or no picture, or is of a newer format; a shard is missing or damaged.
    """

    def __init__(self, folder: Path):
        file = folder / MANIFEST
        if not file.is_file():
            raise SingDiffusionError(f"{folder} has no {MANIFEST}: run singdiffusion encode until it is complete")
        raw = read_json(file)
        number = checked(raw.get("format", 1), f"the format in {file}", int)
        if number > FORMAT:
            raise SingDiffusionError(
                f"{folder} is of format {number}, and this version of singdiffusion reads up to {FORMAT}"
            )
        self.folder, self.manifest = folder, checked(raw, file, Manifest)
        shards = self.manifest["shards"]
        _require_counts(file, self.manifest)
        self.layouts = [_layout(folder / shard["file"], shard, self.manifest) for shard in shards]
        self.groups = sorted({name for shard in shards for name in shard["groups"]})
        if not self.groups:
            raise SingDiffusionError(f"{folder} holds no pictures")
        counts = np.array([[shard["groups"].get(name, 0) for shard in shards] for name in self.groups])
        self._firsts = np.cumsum([0, *counts.ravel()])  # first row of each group's part in each shard
        self.starts = self._firsts[:: len(shards)]  # first row of each group, and the end
        self._tensors = functools.lru_cache(MOST_OPEN)(self._mapped)

    def _mapped(self, shard: int) -> dict[str, np.ndarray]:
        """Return the tensors of a shard, on one memory map.

        Raises:
            SingDiffusionError: it gives a picture captions that are not there.
        """
        file = self.folder / self.manifest["shards"][shard]["file"]
        mapped = np.memmap(file, np.uint8, "r")
        tensors = {
            name: mapped[start:end].view(kind).reshape(shape)
            for name, (kind, shape, start, end) in self.layouts[shard].items()
        }
        for name, firsts in tensors.items():
            kind, _, group = name.partition(".")
            if kind == "captions" and not _rising(firsts, len(tensors[f"tokens.{group}"])):
                raise damaged(file, f"its {name} are not rows of its captions")
        return tensors

    def verify(self, report: Callable[[str], None] | None = None, rank: int = 0, world: int = 1) -> None:
        """Check the content of the shards against the manifest, see ``checks.require_right``.

        Raises:
            SingDiffusionError: a shard holds something else.
        """
        require_right(self.folder, self.manifest["shards"], report, rank, world)

    def place(self, row: int) -> tuple[str, int, int]:
        """Return where a row is: (group, number of its shard, row of the group's tensors in that shard)."""
        part = int(np.searchsorted(self._firsts, row, "right")) - 1
        group, shard = divmod(part, len(self.layouts))
        return self.groups[group], shard, row - int(self._firsts[part])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __reduce__(self) -> tuple:
        return LatentDataset, (self.folder,)  # another process maps the files itself

    @property
    def digest(self) -> str:
        """The same for two folders if they hold the same pictures in the same order, wherever the folders are."""
        return hashlib.sha256("".join(shard["sha256"] for shard in self.manifest["shards"]).encode()).hexdigest()[:32]

    def group_of(self, row: int) -> str:
        """Return the group (pictures of one size) of a row."""
        return self.place(row)[0]

    @property
    def tokenizers(self) -> int:
        """Number of tokenizers whose ids a row has: 1, or 2 for SDXL."""
        return len(self.manifest["base"]["tokens"])

    @property
    def several_captions(self) -> bool:
        """Whether any picture has more than one caption."""
        return self.manifest.get("captions", len(self)) > len(self)  # a manifest of format 1 does not count them

    def captions_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of captions of each row, int64 (B,); at least 1."""
        counts = np.ones(len(rows), np.int64)
        if self.several_captions:
            for chosen, places, _, firsts in self._parts(rows):
                if firsts is not None:
                    counts[chosen] = firsts[places + 1] - firsts[places]
        return counts

    def read(self, rows: np.ndarray, captions: np.ndarray | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return latents float32 (B, C, h, w) and token ids int64 (B, L), one tensor per tokenizer, of rows of one group.

        Args:
            rows: int (B,).
            captions: which caption of each row, from 0 and below ``captions_of``; None: the first.
        """
        wanted = np.zeros(len(rows), np.int64) if captions is None else np.asarray(captions, np.int64)
        kinds = ["latents", *(f"tokens{i or ''}" for i in range(self.tokenizers))]
        found: dict[str, np.ndarray] = {}
        for chosen, places, tensors, firsts in self._parts(rows):
            captioned = places if firsts is None else firsts[places] + wanted[chosen]
            for kind in kinds:
                stored = tensors[kind]
                whole = found.setdefault(kind, np.empty((len(rows), *stored.shape[1:]), stored.dtype))
                whole[chosen] = stored[places if kind == "latents" else captioned]
        latents, *ids = (torch.from_numpy(found[kind].astype(_IN_MEMORY[kind == "latents"])) for kind in kinds)
        return latents, ids

    def _parts(
        self, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray | None]]:
        """Yield the rows of each shard: (which rows, their places, tensors by kind, first caption of each place or None)."""
        rows = np.asarray(rows, np.int64)
        parts = np.searchsorted(self._firsts, rows, "right") - 1
        for part in np.unique(parts):  # reads each shard once
            group, shard = divmod(int(part), len(self.layouts))
            end = f".{self.groups[group]}"
            tensors = {name.removesuffix(end): v for name, v in self._tensors(shard).items() if name.endswith(end)}
            firsts = tensors.get("captions")
            chosen = parts == part
            yield (
                chosen,
                rows[chosen] - self._firsts[part],
                tensors,
                None if firsts is None else firsts.astype(np.int64),
            )

    def size_of(self, row: int) -> tuple[int, int]:
        """Return height and width of a row's latents, also where only their lowest frequencies are stored."""
        height, width = self.group_of(row).split("x")
        scale = self.manifest["base"]["vae_scale"]
        return int(height) // scale, int(width) // scale

    def all_tokens(self) -> Iterator[np.ndarray]:
        """Yield the token ids of every caption, group by group of each shard: (N, L), the tokenizers' ids side by side."""
        for shard in range(len(self.layouts)):
            tensors = self._tensors(shard)
            for name in sorted({key.partition(".")[2] for key in tensors}):
                parts = [tensors[f"tokens{i or ''}.{name}"] for i in range(self.tokenizers)]
                yield np.concatenate(parts, 1)

    @property
    def low_frequency(self) -> int | None:
        """Number of frequencies per side where the shards hold only the lowest ones; None where they hold latents."""
        return self.manifest["options"]["low_frequency"]

    def keys(self, rows: np.ndarray) -> list[str]:
        """Return the names of pictures, for messages: shard and key."""
        found = []
        for row in rows:
            name, shard, i = self.place(int(row))
            file = self.manifest["shards"][shard]["file"]
            found.append(f"{file}: {read_metadata(self.folder / file)['keys'][name][i]}")
        return found


def _require_counts(file: Path, manifest: Manifest) -> None:
    """Check that the counts of a manifest add up.

    Raises:
        SingDiffusionError: they do not.
    """
    for shard in manifest["shards"]:
        if sum(shard["groups"].values()) != shard["count"]:
            raise SingDiffusionError(f"{file}: the count of {shard['file']} is not the sum of its groups; encode again")
    if sum(shard["count"] for shard in manifest["shards"]) != manifest["count"]:
        raise SingDiffusionError(f"{file}: its count is not the sum of its shards; encode again")


class _Tensor(TypedDict):
    """A tensor in the header of a safetensors file."""

    dtype: Literal["F16", "F32", "I32"]
    shape: list[Positive]
    data_offsets: tuple[Count, Count]


Layout = dict[str, tuple[Any, list[int], int, int]]
"""Name -> (type, shape, first byte, end) of the tensors of a shard."""


def _layout(file: Path, shard: ShardEntry, manifest: Manifest) -> Layout:
    """Return the layout of a shard, from its header.

    Raises:
        SingDiffusionError: the file is missing or damaged, or does not fit the manifest.
    """
    if not file.is_file():
        raise SingDiffusionError(f"{file} is missing, and its manifest names it; encode again")
    try:
        if file.stat().st_size != shard["bytes"]:
            raise SingDiffusionError(f"it is not as long as the manifest states, {shard['bytes']:,} bytes")
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(shard["bytes"] - 8, MOST_HEADER):
                raise SingDiffusionError(f"its header cannot have {length:,} bytes")
            header = parse_json(opened.read(length), "its header")
        header.pop("__metadata__", None)
        tensors = checked(header, "its header", dict[str, _Tensor])
        layout = {name: _tensor(name, each, 8 + length, shard["bytes"]) for name, each in tensors.items()}
        for group, count in shard["groups"].items():
            _require_group(group, count, layout, manifest)
    except (SingDiffusionError, OSError, struct.error) as error:
        raise damaged(file, reason(error)) from error
    layout.pop("empty", None)
    return layout


def _tensor(name: str, entry: _Tensor, start: int, size: int) -> tuple[Any, list[int], int, int]:
    kind, (first, end) = _TYPES[entry["dtype"]], entry["data_offsets"]
    needed = math.prod(entry["shape"]) * np.dtype(kind).itemsize
    if not (end - first == needed and start + end <= size):
        raise SingDiffusionError(f"the bytes of {name:.40} are not those of its shape")
    return kind, entry["shape"], start + first, start + end


def _require_group(group: str, count: int, layout: Layout, manifest: Manifest) -> None:
    """Check that the tensors of a group are there, and of the shapes that the manifest states."""
    base, kept = manifest["base"], manifest["options"]["low_frequency"]
    sides = [side // base["vae_scale"] if kept is None else kept for side in map(int, group.split("x"))]
    firsts, tokens = f"captions.{group}", layout.get(f"tokens.{group}")
    rows = count if firsts not in layout or tokens is None else tokens[1][0]
    wanted = {f"latents.{group}": (np.float16, [count, base["latent_channels"], *sides])}
    wanted |= {f"tokens{i or ''}.{group}": (np.int32, [rows, length]) for i, length in enumerate(base["tokens"])}
    if firsts in layout:
        wanted[firsts] = np.int32, [count + 1]
    for name, (kind, shape) in wanted.items():
        found = layout.get(name)
        if found is None or found[:2] != (kind, shape):
            raise SingDiffusionError(f"its {name} is missing or of another shape or type than the manifest states")


def _rising(firsts: np.ndarray, end: int) -> bool:
    """Return whether numbers begin with 0, rise, and end with ``end``."""
    return firsts[0] == 0 and firsts[-1] == end and bool((np.diff(firsts) > 0).all())


def _number_type(data: Any) -> Any:
    """Return the smallest type for row numbers: with hundreds of millions of pictures these fill the memory."""
    return np.uint32 if len(data) < 2**32 else np.int64


@dataclass
class Plan:
    """The rows of each step's batch.

    An epoch shuffles every group and cuts it into batches. The last batch of a group is filled up with rows of the same group, so
    each epoch shows every picture. Batches of different sizes of pictures are mixed.

    Attributes:
        data: the pictures.
        batch: pictures per step, over all processes.
        seed: of the shuffling.
        held_out: number of pictures kept from training, for validation: the first of a fixed shuffle.
    """

    data: LatentDataset
    batch: int
    seed: int = 0
    held_out: int = 0
    _latest: tuple[int, list[np.ndarray]] = field(default=(-1, []), init=False, repr=False)  # an epoch and its batches

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise SingDiffusionError(f"batch must be at least 1, not {self.batch}", setting="batch")
        if not 0 <= self.held_out < len(self.data):
            raise SingDiffusionError(
                f"held_out must leave pictures to train on, and is {self.held_out} of {len(self.data)}",
                setting="data.held_out",
            )

    @cached_property
    def validation(self) -> np.ndarray:
        """The rows that are held out."""
        return np.sort(np.random.default_rng(HELD_OUT_SEED).permutation(len(self.data))[: self.held_out])

    @cached_property
    def _training(self) -> list[np.ndarray]:
        """Rows to train on, by group."""
        kept = np.setdiff1d(np.arange(len(self.data), dtype=_number_type(self.data)), self.validation)
        parts = [kept[(kept >= a) & (kept < b)] for a, b in zip(self.data.starts, self.data.starts[1:], strict=False)]
        return [part for part in parts if len(part)]

    @property
    def steps_per_epoch(self) -> int:
        return sum(-(-len(part) // self.batch) for part in self._training)

    def epoch(self, number: int) -> list[np.ndarray]:
        """Return the batches of an epoch, rows (batch,) each."""
        rng = np.random.default_rng((self.seed, number))
        batches = []
        for part in self._training:
            shuffled = rng.permutation(part)
            short = -len(shuffled) % self.batch
            filled = np.concatenate([shuffled, rng.choice(part, short)])
            batches += list(filled.reshape(-1, self.batch))
        return [batches[i] for i in rng.permutation(len(batches))]

    def epoch_of(self, step: int) -> int:
        """Return the number of a step's epoch; both count from 0."""
        return step // self.steps_per_epoch

    def rows(self, step: int) -> np.ndarray:
        """Return the batch of a step, counted from 0."""
        number, within = divmod(step, self.steps_per_epoch)
        if self._latest[0] != number:
            self._latest = number, self.epoch(number)
        return self._latest[1][within]
