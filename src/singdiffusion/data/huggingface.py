"""Data sets of the ``datasets`` library as a source."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError, one_line_error, reason
from .captions import CAPTIONS, caption_of, of_row
from .items import Item, Numbered, Skipped, digest_of

PICTURES = ("image", "picture", "jpg", "png", "webp")  # names of a column of pictures; the first that exists is used


class HuggingFaceDataset(Numbered):
    """A data set of the ``datasets`` library with a column of pictures and one of captions.

    Args:
        rows: the data set.
        name: of it, for messages.
        unit_size: rows per unit.

    Raises:
        SingDiffusionError: it lacks a column.
    """

    def __init__(self, rows: Any, name: str, unit_size: int):
        from datasets import Image

        self.rows, self.name, self.unit_size = rows, name, unit_size
        columns = rows.column_names
        self.captions = [c for c in CAPTIONS if c in columns]
        self.picture = next((c for c in PICTURES if c in columns), None)
        if not self.captions or self.picture is None:
            raise SingDiffusionError(
                f"the data set {name} needs a column of pictures ({', '.join(PICTURES)}) and one of captions "
                f"({', '.join(CAPTIONS)}); it has {', '.join(columns)}"
            )
        with one_line_error(f"the column {self.picture} of the data set {name} holds no pictures"):
            self.rows = rows.cast_column(self.picture, Image(decode=False))
        self.count = len(rows)

    @classmethod
    def from_disk(cls, folder: Path, split: str, unit_size: int) -> HuggingFaceDataset:
        """Open a folder that ``datasets`` saved.

        Raises:
            SingDiffusionError: it has no such split, or lacks a column.
        """
        from datasets import DatasetDict, load_from_disk

        with one_line_error(f"the data set {folder} cannot be read"):
            loaded = load_from_disk(str(folder))
        if isinstance(loaded, DatasetDict):
            if split not in loaded:
                raise SingDiffusionError(
                    f"{folder} has no split {split!r}; it has {', '.join(map(str, loaded))}", setting="split"
                )
            loaded = loaded[split]
        return cls(loaded, str(folder), unit_size)

    @classmethod
    def from_hub(cls, name: str, split: str, unit_size: int) -> HuggingFaceDataset:
        """Open a data set of the hub, by its id.

        Raises:
            SingDiffusionError: it cannot be loaded, or lacks a column.
        """
        from datasets import load_dataset

        with one_line_error(f"there is no folder {name}, and no data set of that name could be loaded"):
            loaded = load_dataset(name, split=split)
        return cls(loaded, name, unit_size)

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        """Yield the rows of a unit; of several columns of captions the first that holds one counts."""
        for i in self._range(unit):
            try:
                row = self.rows[i]
            except Exception as error:  # pyarrow's kinds, and those of datasets
                yield Skipped(f"row {i}", f"cannot be read: {reason(error)}")
                continue
            yield self._item(f"row {i}", row)

    def _item(self, key: str, row: dict[str, Any]) -> Item | Skipped:
        stored = row[self.picture]
        content = _content(stored) if isinstance(stored, dict) else None
        if content is None:
            return Skipped(key, "has no picture")
        if isinstance(content, str) and not os.path.isfile(content):
            return Skipped(key, f"names a picture that is not there: {content}")
        found = caption_of(of_row(row))
        return Item(key, content, found.texts, found.notes) if found.texts else Skipped(key, found.reason)

    def digest(self, unit: str) -> str:
        """Return a digest of the unit's number and of the data set's fingerprint."""
        # datasets has no public digest of a data set's content; this one also names its cache files
        return digest_of([unit, self.unit_size, self.rows._fingerprint])


def _content(stored: dict[str, Any]) -> io.BytesIO | str | None:
    """Return a stored picture's bytes or path, or None where it has neither."""
    content, path = stored.get("bytes"), stored.get("path")
    return io.BytesIO(content) if isinstance(content, bytes) and content else path if isinstance(path, str) else None
