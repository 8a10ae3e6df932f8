"""What a source yields: pictures with captions, and the reason for everything that cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

READING = 2  # of the rules by which sources are read; with others a unit counts as changed and is encoded again


@dataclass(frozen=True)
class Item:
    """A picture with its captions.

    Attributes:
        key: name of the picture within the source.
        picture: what ``PIL.Image.open`` takes, or a decoded ``PIL.Image.Image``.
        captions: one or more, none empty, each once.
        notes: what had to be changed or left out.
    """

    key: str
    picture: Any
    captions: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """Something that cannot be used, and the reason."""

    key: str
    reason: str


class Source(Protocol):
    """Captioned pictures, in units that can be encoded one by one."""

    def units(self) -> list[str]:
        """Return the names of the units, always the same in the same order."""
        ...

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        """Yield the content of a unit, always in the same order."""
        ...

    def digest(self, unit: str) -> str:
        """Return a digest that changes when the unit does; nothing is decoded for it."""
        ...


class Numbered:
    """A source without units of its own: every ``unit_size`` pictures make one."""

    count: int
    unit_size: int

    def units(self) -> list[str]:
        """Return the numbers of the units, as text."""
        return [f"{start // self.unit_size:05d}" for start in range(0, self.count, self.unit_size)]

    def _range(self, unit: str) -> range:
        start = int(unit) * self.unit_size
        return range(start, min(start + self.unit_size, self.count))


def changed(file: Path) -> tuple[int, int]:
    """Return (bytes, time of the last change) of a file, (0, 0) where it does not exist."""
    try:
        stat = file.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def digest_of(content: Any) -> str:
    """Return a digest of JSON content and of the rules by which sources are read."""
    return hashlib.sha256(json.dumps([READING, content]).encode()).hexdigest()[:32]
