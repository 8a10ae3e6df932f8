"""Read ``metadata.jsonl`` and ``metadata.csv`` of a folder and its subfolders, as Hugging Face's imagefolder has them."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError
from .captions import of_row
from .items import Skipped
from .listing import Listing

NAME, SUFFIXES = "metadata", (".jsonl", ".csv")


class Metadata:
    """The captions that the metadata files of a folder name.

    Several rows may name one picture; each holds a caption of it. A ``file_name`` counts from the folder of its metadata file.

    Args:
        listing: of the folder.

    Attributes:
        files: the metadata files, in the order of their paths.
        captions: name of a picture within the folder -> the values of its rows.
        unused: rows without a picture, and metadata files of other formats, with the reason.

    Raises:
        SingDiffusionError: a metadata file cannot be read, or a row has no ``file_name``.
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
            folder = listing.key(file.parent)
            for name, raw in _rows(file):
                self.captions.setdefault(names.key(folder, name), []).append(raw)
        if names is not None:
            self.unused += [
                Skipped(key, names.why_absent(key)) for key in sorted(set(self.captions) - set(names.pictures))
            ]


class _Names:
    """The names of a folder's pictures, found again as other systems write them."""

    def __init__(self, listing: Listing):
        self.root = listing.root
        self.pictures = dict.fromkeys(map(listing.key, listing.pictures))
        self._composed = {unicodedata.normalize("NFC", key): key for key in self.pictures}  # macOS decomposes names
        self._folded = {key.casefold(): key for key in self.pictures}

    def key(self, folder: str, name: str) -> str:
        """Return the name within the folder of what a row names: with ./, ..\\ or a path from the root of the system, too."""
        found = ""
        for form in (name, name.replace("\\", "/")):
            found = posixpath.normpath(posixpath.join(folder, form))
            found = found.removeprefix(f"{self.root.resolve().as_posix()}/")
            found = (
                self._composed.get(unicodedata.normalize("NFC", found), found) if found not in self.pictures else found
            )
            if found in self.pictures:
                break
        return found

    def why_absent(self, key: str) -> str:
        """Return the reason why a name of the metadata leads to no picture."""
        if (self.root / key).exists():
            return "is named in the metadata but is not a picture that is used"
        other = self._folded.get(key.casefold())
        return "is named in the metadata but does not exist" + (f": there is {other}" if other else "")


def _rows(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield (file_name, stored caption) of each row."""
    if file.suffix.lower() == ".csv":
        yield from _table_rows(file)
        return
    # not splitlines(): it also splits at U+2028 and others, which JSON allows within a string
    for number, line in enumerate(_text(file).split("\n"), 1):
        if line.strip():
            yield _json_row(file, number, line)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")  # spreadsheets begin UTF-8 with a byte order mark
    except OSError as error:
        raise SingDiffusionError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SingDiffusionError(f"{file} is not UTF-8") from error


def _table_rows(file: Path) -> Iterator[tuple[str, Any]]:
    rows = csv.DictReader(io.StringIO(_text(file), newline=""))
    try:
        for row in rows:
            yield _row(f"{file}, line {rows.line_num}", row)
    except csv.Error as error:
        raise SingDiffusionError(f"{file} is not CSV after line {rows.line_num}: {error}") from error


def _json_row(file: Path, number: int, line: str) -> tuple[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SingDiffusionError(f"{file}, line {number} is not JSON") from error
    return _row(f"{file}, line {number}", row)


def _row(where: str, row: Any) -> tuple[str, Any]:
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise SingDiffusionError(f"{where} has no file_name")
    return row["file_name"], of_row(row)
