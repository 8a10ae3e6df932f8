"""Arrays of an .npz file, whoever wrote it: their headers are checked before their numbers are read, and only what is wanted is read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SingDiffusionError, reason
from ...memory import require_memory

LARGEST = 1e38  # about that of float32: squares and cubes of the numbers stay finite
COPIES = 4  # of an array at once: as stored, in float64, and what is computed from it
LONGEST = 10_000  # characters of a text
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Stored:
    """An .npz file that is open.

    Attributes:
        file: for messages.
        what: that it must hold, for messages: "statistics".
        members: the archive.
    """

    file: Path
    what: str
    members: zipfile.ZipFile

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self.members.namelist()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape in an array's header; its numbers are not read."""
        return self._header(name)[0]

    def numbers(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """Return an array of finite numbers, in float64.

        Args:
            shape: that it must have; None stands for any length.

        Raises:
            SingDiffusionError: it has another shape, holds something else, or needs more memory than is free.
        """
        found, dtype = self._header(name)
        if len(found) != len(shape) or any(wanted not in (None, one) for one, wanted in zip(found, shape, strict=True)):
            wanted = ", ".join("any" if each is None else str(each) for each in shape)
            raise self.wrong(f"{name} has the shape {_short(found)}, and ({wanted}) is wanted")
        if dtype.kind not in "fiu":
            raise self.wrong(f"{name} holds {dtype!s:.40}, and numbers are wanted")
        require_memory(COPIES * 8 * math.prod(found), f"{name} of {self.file}")
        numbers = self._read(name)
        if not (np.abs(numbers) <= LARGEST).all():  # NaN is not either
            raise self.wrong(f"{name} holds NaN, infinity or numbers over {LARGEST:g}")
        return numbers.astype(np.float64)

    def whole(self, name: str, least: int, most: int) -> int:
        """Return a single whole number.

        Raises:
            SingDiffusionError: it is something else, or lies outside of ``least`` and ``most``.
        """
        value = float(self.numbers(name, ()))
        if not (least <= value <= most and value == int(value)):
            raise self.wrong(f"{name} must be a whole number from {least} to {most:g}, not {value:g}")
        return int(value)

    def text(self, name: str) -> str:
        """Return a single text.

        Raises:
            SingDiffusionError: it is something else, or is very long.
        """
        shape, dtype = self._header(name)
        if shape or dtype.kind != "U" or dtype.itemsize > 4 * LONGEST:
            raise self.wrong(f"{name} is not a text of at most {LONGEST} characters")
        return str(self._read(name))

    def wrong(self, line: str) -> SingDiffusionError:
        """Return the error of a file that does not hold what it must."""
        return SingDiffusionError(f"{self.file} holds no {self.what}: {line}")

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and type of an array, as its header names them, where these fit the bytes that the archive lists for it."""
        with self.members.open(f"{name}.npy") as opened:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(opened)](opened)
            size = self.members.getinfo(f"{name}.npy").file_size
            if opened.tell() + math.prod(shape) * dtype.itemsize != size:
                raise self.wrong(f"the header of {name} does not fit its size")
        return shape, dtype

    def _read(self, name: str) -> np.ndarray:
        with self.members.open(f"{name}.npy") as opened:
            return np.lib.format.read_array(opened, allow_pickle=False)


@contextmanager
def stored(file: Path, what: str, wanted: str) -> Iterator[Stored]:
    """Open an .npz file. An error of numpy or zipfile inside the block becomes one line.

    Args:
        file: the archive.
        what: that it must hold, such as "statistics".
        wanted: what would be right, such as "an .npz of mu and sigma".

    Raises:
        SingDiffusionError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as members:
            yield Stored(file, what, members)
    except SingDiffusionError:
        raise
    except OSError as error:
        raise SingDiffusionError(f"{file} cannot be read: {reason(error)}") from error
    except Exception as error:  # numpy and zipfile raise many kinds
        raise SingDiffusionError(f"{file} holds no {what}: {wanted} is wanted") from error


def _short(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape)):.40})"
