"""Sources of captioned pictures: a folder, webdataset shards as img2dataset writes them, a Hugging Face data set.

A source consists of units; when encoding stops, only the unit in hand has to be encoded again. A unit yields an ``Item`` for a
picture with a caption, and a ``Skipped`` for anything that cannot be used, so that nothing disappears without a record.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import SingDiffusionError, reason
from ..reading import DEEPEST
from .folders import Folder
from .huggingface import HuggingFaceDataset
from .items import Item, Skipped, Source
from .listing import list_folder
from .tars import TarShards

__all__ = ["Item", "Skipped", "Source", "TarsAndPictures", "open_source"]

MOST_NAMES = 1_000_000  # of a brace pattern
_INNER = re.compile(r"\{([^{}]*)\}")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.-?\d+)?")  # a step makes them fewer
_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?")


def open_source(source: str, unit_size: int = 2048, split: str = "train") -> Source:
    """Return the source at a path, or the data set of a name.

    Args:
        source: a folder of pictures (captions in .txt files beside them, or in metadata.jsonl or metadata.csv), a folder of .tar
            shards or a brace pattern of them, a folder that ``datasets`` saved, or a data set's hub id.
        unit_size: pictures per unit, where the source has no units of its own.
        split: of a Hugging Face data set.

    Raises:
        SingDiffusionError: it is none of these, or holds no pictures.
    """
    if not source.strip() or "\0" in source:
        raise SingDiffusionError(
            "the source must be the name of a folder, of .tar shards or of a data set, not " + repr(source)
        )
    path = Path(source)  # os.path takes names that are too long for the system as ones that do not exist
    if os.path.isfile(path) and path.suffix.lower() == ".tar":
        return TarShards([path])
    if "{" in source and not os.path.exists(path):
        return TarShards([Path(p) for p in _braces(source)])
    if os.path.isdir(path):
        return _folder(path, unit_size, split)
    if os.path.exists(path):
        raise SingDiffusionError(f"{source} is a file; a source is a folder, .tar shards or a data set's hub id")
    return HuggingFaceDataset.from_hub(source, split, unit_size)


def _folder(path: Path, unit_size: int, split: str) -> Source:
    tars = sorted(file for file in path.iterdir() if file.suffix.lower() == ".tar" and file.is_file())
    if not tars and any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return HuggingFaceDataset.from_disk(path, split, unit_size)
    listing = list_folder(path)
    if not tars:
        return Folder(path, unit_size, listing)
    if not listing.pictures and not listing.unused:
        return TarShards(tars)
    return TarsAndPictures(TarShards(tars), Folder(path, unit_size, listing, needed=False))


class TarsAndPictures:
    """A folder with .tar shards and loose pictures: the units of the shards, then those of the pictures, ``loose-NUMBER``.

    Args:
        tars: the shards.
        loose: the pictures beside them and in subfolders.

    Raises:
        SingDiffusionError: a shard has the name of such a unit.
    """

    def __init__(self, tars: TarShards, loose: Folder):
        self._parts: dict[str, tuple[Source, str]] = {unit: (tars, unit) for unit in tars.units()}
        for unit in loose.units():
            name = f"loose-{unit}"
            if name in self._parts:
                raise SingDiffusionError(f"rename the shard {name}.tar: loose pictures beside it get that name")
            self._parts[name] = loose, unit

    def units(self) -> list[str]:
        """Return the names of the units."""
        return list(self._parts)

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        """Yield the content of a shard, or of a unit of loose pictures."""
        source, name = self._parts[unit]
        return source.items(name)

    def digest(self, unit: str) -> str:
        """Return the digest of a shard, or of a unit of loose pictures."""
        source, name = self._parts[unit]
        return source.digest(name)


def _braces(pattern: str) -> list[str]:
    """Return the names of a brace pattern.

    Raises:
        SingDiffusionError: its braces do not pair, or it stands for more than ``MOST_NAMES``.
    """
    from braceexpand import UnbalancedBracesError, braceexpand

    count = _count(pattern)
    if count > MOST_NAMES:
        raise SingDiffusionError(f"{pattern:.200} stands for {count:,} names; at most {MOST_NAMES:,} are read")
    try:
        return list(braceexpand(pattern))
    except (UnbalancedBracesError, ValueError) as error:
        raise SingDiffusionError(f"{pattern:.200} is not a pattern of names: {reason(error)}") from error


def _count(pattern: str) -> int:
    """Return how many names a brace pattern stands for, from its inner braces outwards.

    Raises:
        SingDiffusionError: its braces are nested too deeply.
    """
    counts: list[int] = []

    def count(found: re.Match[str]) -> str:
        counts.append(_alternatives(found[1], counts))
        return f"\0{len(counts) - 1}\0"

    inner = pattern
    for _ in range(DEEPEST):
        inner, changed = _INNER.subn(count, inner)
        if not changed:
            return _product(inner, counts)
    raise SingDiffusionError(f"{pattern:.200} is not a pattern of names: braces are nested more than {DEEPEST} deep")


def _alternatives(content: str, counts: list[int]) -> int:
    """Return how many names the content of a pair of braces stands for; \0I\0 in it stands for ``counts[I]``."""
    letters = _LETTERS.fullmatch(content)
    if letters is not None:
        return abs(ord(letters[1]) - ord(letters[2])) + 1
    numbers = _RANGE.fullmatch(content)
    if numbers is None:
        return sum(_product(one, counts) for one in content.split(","))
    first, last, step = (int(number or 1) for number in numbers.groups())
    return abs(last - first) // max(1, abs(step)) + 1


def _product(text: str, counts: list[int]) -> int:
    return math.prod(counts[int(number)] for number in text.split("\0")[1::2])
