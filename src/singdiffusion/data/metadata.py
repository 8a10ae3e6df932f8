"""Read ``metadata.jsonl`` and ``metadata.csv`` of a folder and its subfolders, as Hugging Face's imagefolder has them."""

from __future__ import annotations

import codecs
import csv
import os
import posixpath
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError, reason
from ..memory import require_memory
from ..reading import parse_json
from .captions import MOST_CAPTIONS, of_row
from .items import Skipped
from .listing import Listing

NAME, SUFFIXES = "metadata", (".jsonl", ".csv")
FILE_NAME = "file_name"  # the column that names a picture
MEMORY = 6  # bytes that a byte of rows takes in memory
NOT_UTF_8 = "its row is not UTF-8"


class Metadata:
    """The captions that the metadata files of a folder name.

    Several rows may name one picture; each holds a caption of it. A ``file_name`` counts from the folder of its metadata file.

    Args:
        listing: of the folder.

    Attributes:
        files: the metadata files, in the order of their paths.
        captions: name of a picture within the folder -> the values of its rows.
        unused: rows that cannot be read or have no picture, and metadata files of other formats, with the reason.

    Raises:
        SingDiffusionError: a metadata file cannot be read, or none of its rows.
    """

    def __init__(self, listing: Listing):
        named = [file for file in listing.others if file.stem.lower() == NAME]
        self.files = [file for file in named if file.suffix.lower() in SUFFIXES]
        self.captions: dict[str, list[Any]] = {}
        self.unused = [
            Skipped(listing.key(file), "is not read: write its rows into metadata.jsonl or metadata.csv")
            for file in named
            if file.suffix.lower() not in (*SUFFIXES, ".txt")
        ]
        names = _Names(listing) if self.files else None
        for file in self.files:
            assert names is not None
            self._read(file, listing, names)
        if names is not None:
            self.unused += [
                Skipped(key, names.why_absent(key)) for key in sorted(set(self.captions) - set(names.pictures))
            ]

    def _read(self, file: Path, listing: Listing, names: _Names) -> None:
        """Add the rows of a file, those that cannot be used to ``unused``."""
        folder, bad, good = listing.key(file.parent), [], 0
        for number, row in _rows(file):
            if isinstance(row, str):
                bad.append(Skipped(f"{listing.key(file)}, line {number}", row))
                continue
            good += 1
            values = self.captions.setdefault(names.key(folder, row[0]), [])
            if len(values) <= MOST_CAPTIONS:  # one more, so that a note names it
                values.append(row[1])
        if bad and not good:
            raise SingDiffusionError(
                f"{file} has no row that can be used: of line {bad[0].key.rpartition(' ')[2]}, {bad[0].reason}"
            )
        self.unused += bad


class _Names:
    """The names of a folder's pictures, found again as other systems write them."""

    def __init__(self, listing: Listing):
        self.root = listing.root
        self._start = f"{listing.root.resolve().as_posix()}/"
        self.pictures = dict.fromkeys(map(listing.key, listing.pictures))
        self._composed = {unicodedata.normalize("NFC", key): key for key in self.pictures}  # macOS decomposes names
        self._folded = {key.casefold(): key for key in self.pictures}

    def key(self, folder: str, name: str) -> str:
        """Return the name within the folder of what a row names: with ./, ..\\ or a path from the root of the system, too."""
        found = ""
        for form in (name, name.replace("\\", "/")):
            found = posixpath.normpath(posixpath.join(folder, form))
            found = found.removeprefix(self._start)
            found = (
                self._composed.get(unicodedata.normalize("NFC", found), found) if found not in self.pictures else found
            )
            if found in self.pictures:
                break
        return found

    def why_absent(self, key: str) -> str:
        """Return the reason why a name of the metadata leads to no picture."""
        if os.path.exists(self.root / key):  # other than Path.exists, also where the name is too long for the system
            return "is named in the metadata but is not a picture that is used"
        other = self._folded.get(key.casefold())
        return "is named in the metadata but does not exist" + (f": there is {other}" if other else "")


Row = tuple[str, Any]
"""(file_name, stored caption)."""


def _rows(file: Path) -> Iterator[tuple[int, Row | str]]:
    """Yield (line, row, or the reason why there is none) of each row of a metadata file.

    Raises:
        SingDiffusionError: the file cannot be read, has none of the columns that are needed, or is larger than the memory allows.
    """
    try:
        require_memory(MEMORY * file.stat().st_size, f"reading {file}")
        if file.suffix.lower() == ".csv":
            yield from _table_rows(file)
        else:
            yield from _json_rows(file)
    except OSError as error:
        raise SingDiffusionError(f"cannot read {file}: {reason(error)}") from error


def _json_rows(file: Path) -> Iterator[tuple[int, Row | str]]:
    with file.open(
        "rb"
    ) as opened:  # lines of bytes end at no other character, such as U+2028, which JSON allows in a string
        for number, line in enumerate(opened, 1):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if content.strip():
                try:
                    yield number, _row(parse_json(content, "its row"))
                except SingDiffusionError as error:
                    yield number, str(error)


def _table_rows(file: Path) -> Iterator[tuple[int, Row | str]]:
    # bytes that are not UTF-8 become lone surrogates, so that they cost their row only
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
        rows = csv.DictReader(opened)
        try:
            columns = rows.fieldnames or []
        except csv.Error as error:
            raise SingDiffusionError(f"{file} is not CSV: {error}") from error
        if FILE_NAME not in columns:
            raise SingDiffusionError(f"{file} has no column {FILE_NAME}")
        while True:
            try:
                row = next(rows)
                yield rows.line_num, NOT_UTF_8 if _has_bytes(row) else _row(row)
            except csv.Error as error:
                yield rows.reader.line_num, f"its row is not CSV: {error}"
            except StopIteration:
                return


def _has_bytes(row: dict[Any, Any]) -> bool:
    """Return whether a row holds bytes that are not UTF-8."""
    return any("\udc80" <= c <= "\udcff" for value in row.values() if isinstance(value, str) for c in value)


def _row(row: dict[Any, Any]) -> Row | str:
    name = row.get(FILE_NAME)
    return (name, of_row(row)) if isinstance(name, str) and name else f"its row has no {FILE_NAME}"
