"""Sources of captioned pictures: a folder, webdataset shards as img2dataset writes them, a Hugging Face data set.

A source consists of units; when encoding stops, only the unit in hand has to be encoded again. A unit yields an ``Item`` for a
picture with a caption, and a ``Skipped`` for anything that cannot be used, so that nothing disappears without a record.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import SingDiffusionError, one_line_error

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
LONGEST_CAPTION = 10_000  # characters; a tokenizer takes some 300 of them
MOST_BYTES = 4 * LONGEST_CAPTION  # of a caption in UTF-8
CAPTIONS = ("text", "caption", "prompt")  # names of a column of captions; the first that exists is used
PICTURES = ("image", "picture", "jpg", "png", "webp")  # names of a column of pictures


@dataclass(frozen=True)
class Item:
    """A picture with a caption.

    Attributes:
        key: name of the picture within the source.
        picture: what ``PIL.Image.open`` takes, or a decoded ``PIL.Image.Image``.
        caption: not empty.
        notes: what had to be changed.
    """

    key: str
    picture: Any
    caption: str
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
    path = Path(source)
    if path.is_file() and path.suffix == ".tar":
        return TarShards([path])
    if "{" in source:
        return TarShards([Path(p) for p in _braces(source)])
    if path.is_dir() and any(path.glob("*.tar")):
        return TarShards(sorted(path.glob("*.tar")))
    if path.is_dir() and ((path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()):
        return HuggingFaceDataset.from_disk(path, split, unit_size)
    if path.is_dir():
        return Folder(path, unit_size)
    if path.exists():
        raise SingDiffusionError(f"{source} is a file; a source is a folder, .tar shards or a data set's hub id")
    return HuggingFaceDataset.from_hub(source, split, unit_size)


def caption_of(raw: Any) -> tuple[str | None, str]:
    """Return (caption, "") or (None, the reason why it cannot be used).

    Of a list of captions the first is taken, and a long caption is cut.
    """
    if isinstance(raw, list | tuple):
        raw = raw[0] if raw else None
    if raw is None:
        return None, "has no caption"
    if isinstance(raw, bytes):
        errors = "strict" if len(raw) <= MOST_BYTES else "ignore"  # a cut may fall within a character
        try:
            raw = raw[:MOST_BYTES].decode("utf-8", errors)
        except UnicodeDecodeError:
            return None, "its caption is not UTF-8"
    if not isinstance(raw, str):
        return None, f"its caption is not text but a {type(raw).__name__}"
    words = " ".join(raw[:LONGEST_CAPTION].split())
    return (words, "") if words else (None, "its caption is empty")


def _item(key: str, picture: Any, raw: Any) -> Item | Skipped:
    caption, reason = caption_of(raw)
    if caption is None:
        return Skipped(key, reason)
    cut = isinstance(raw, str | bytes) and len(raw) > LONGEST_CAPTION
    return Item(key, picture, caption, ("caption cut",) if cut else ())


# -- a folder ---------------------------------------------------------------------------------------------------------


class _Numbered:
    """A source without units of its own: every ``unit_size`` pictures make one."""

    count: int
    unit_size: int

    def units(self) -> list[str]:
        return [f"{start // self.unit_size:05d}" for start in range(0, self.count, self.unit_size)]

    def _range(self, unit: str) -> range:
        start = int(unit) * self.unit_size
        return range(start, min(start + self.unit_size, self.count))


class Folder(_Numbered):
    """Pictures in a folder and its subfolders, in the order of their paths."""

    def __init__(self, folder: Path, unit_size: int):
        self.folder, self.unit_size = folder, unit_size
        self.files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        self.metadata = _metadata(folder)
        if not self.files:
            raise SingDiffusionError(f"{folder} holds no pictures ({', '.join(SUFFIXES)}) and no .tar shards")
        self.absent = sorted(set(self.metadata) - {self._key(file) for file in self.files})
        self.count = len(self.files)

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        for i in self._range(unit):
            file = self.files[i]
            key = self._key(file)
            yield _item(key, file, self.metadata[key] if key in self.metadata else _sidecar(file))
        if self._range(unit).start == 0:
            yield from (Skipped(key, "is named in the metadata but does not exist") for key in self.absent)

    def digest(self, unit: str) -> str:
        files = [self.files[i] for i in self._range(unit)]
        stats = [
            (self._key(f), *_changed(f), *_changed(f.with_suffix(".txt")), self.metadata.get(self._key(f)))
            for f in files
        ]
        return _hash([*stats, *(self.absent if self._range(unit).start == 0 else [])])

    def _key(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()


def _changed(file: Path) -> tuple[int, int]:
    """Return (bytes, time of the last change) of a file, (0, 0) where it does not exist."""
    try:
        stat = file.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _sidecar(picture: Path) -> bytes | None:
    """Return the caption in the .txt beside a picture, cut where it is too long."""
    file = picture.with_suffix(".txt")
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES + 1)


def _metadata(folder: Path) -> dict[str, Any]:
    """Return file_name -> caption, from the metadata file of Hugging Face's imagefolder."""
    lines, table = folder / "metadata.jsonl", folder / "metadata.csv"
    if lines.is_file():
        # not splitlines(): it also splits at U+2028 and others, which JSON allows within a string
        rows = enumerate(_text(lines).split("\n"), 1)
        return dict(_json_row(lines, i, line) for i, line in rows if line.strip())
    return dict(_table_rows(table)) if table.is_file() else {}


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")  # spreadsheets begin UTF-8 with a byte order mark
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
    except ValueError as error:
        raise SingDiffusionError(f"{file}, line {number} is not JSON") from error
    return _row(f"{file}, line {number}", row)


def _row(where: str, row: Any) -> tuple[str, Any]:
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise SingDiffusionError(f"{where} has no file_name")
    return row["file_name"], next((row[name] for name in CAPTIONS if name in row), None)


# -- webdataset shards ------------------------------------------------------------------------------------------------


class TarShards:
    """.tar shards of members KEY.jpg (or another picture), KEY.txt and optionally KEY.json with a caption."""

    def __init__(self, files: list[Path]):
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise SingDiffusionError(f"shard {missing[0]} does not exist ({len(missing)} of {len(files)} are missing)")
        self.files = {file.stem: file for file in files}
        if len(self.files) < len(files):
            raise SingDiffusionError("two shards have the same name; put them into a folder each and encode one by one")

    def units(self) -> list[str]:
        return list(self.files)

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        """Yield groups of members with the same key; of a damaged archive what is readable, and a ``Skipped`` where it ends."""
        group: dict[str, bytes] = {}
        current = None
        try:
            with tarfile.open(self.files[unit]) as archive:
                for member in archive:
                    if not member.isfile():
                        continue
                    key, suffix = _key_and_suffix(member.name)
                    if key != current:
                        yield from self._grouped(current, group)
                        current, group = key, {}
                    opened = archive.extractfile(member)
                    content = b"" if opened is None else opened.read()
                    if len(content) < member.size:
                        raise tarfile.ReadError("unexpected end of data")
                    group[suffix.lower()] = content
                yield from self._grouped(current, group)
                _require_end(archive)
        except (tarfile.TarError, OSError, EOFError) as error:
            yield Skipped(f"{self.files[unit].name} after {current}", f"the shard is damaged: {error}")

    def digest(self, unit: str) -> str:
        return _hash([unit, *_changed(self.files[unit])])

    @staticmethod
    def _grouped(key: str | None, group: dict[str, bytes]) -> Iterator[Item | Skipped]:
        """Yield the picture of a key: its members' content by suffix."""
        if key is None:
            return
        picture = next((content for suffix, content in group.items() if f".{suffix}" in SUFFIXES), None)
        if picture is None:
            yield Skipped(key, "has no picture")
            return
        caption: Any = group.get("txt")
        if caption is None and "json" in group:
            try:
                values = json.loads(group["json"])
                caption = next((values[name] for name in CAPTIONS if name in values), None)
            except ValueError:
                yield Skipped(key, "its .json cannot be read")
                return
        yield _item(key, io.BytesIO(picture), caption)


def _key_and_suffix(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its file name; dots in the names of its folders do not count."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix


def _require_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError unless an archive really ends where ``tarfile`` stopped: ``tarfile`` takes a damaged header for the end."""
    file: Any = archive.fileobj
    file.seek(archive.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is cut off")
    while block:
        if any(block):
            raise tarfile.ReadError("a damaged header, or more behind its end")
        block = file.read(1 << 20)


def _braces(pattern: str) -> list[str]:
    from braceexpand import braceexpand

    return list(braceexpand(pattern))


# -- Hugging Face data sets -------------------------------------------------------------------------------------------


class HuggingFaceDataset(_Numbered):
    """A data set of the ``datasets`` library with a column of pictures and one of captions."""

    def __init__(self, rows: Any, name: str, unit_size: int):
        from datasets import Image

        self.rows, self.name, self.unit_size = rows, name, unit_size
        columns = rows.column_names
        self.caption = next((c for c in CAPTIONS if c in columns), None)
        self.picture = next((c for c in PICTURES if c in columns), None)
        if self.caption is None or self.picture is None:
            raise SingDiffusionError(
                f"the data set {name} needs a column of pictures ({', '.join(PICTURES)}) and one of captions "
                f"({', '.join(CAPTIONS)}); it has {', '.join(columns)}"
            )
        self.rows = rows.cast_column(self.picture, Image(decode=False))
        self.count = len(rows)

    @classmethod
    def from_disk(cls, folder: Path, split: str, unit_size: int) -> HuggingFaceDataset:
        """Open a folder that ``datasets`` saved.

        Raises:
            SingDiffusionError: it has no such split, or lacks a column.
        """
        from datasets import DatasetDict, load_from_disk

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
        for i in self._range(unit):
            row = self.rows[i]
            stored = row[self.picture] or {}
            content = io.BytesIO(stored["bytes"]) if stored.get("bytes") else stored.get("path")
            key = f"row {i}"
            yield Skipped(key, "has no picture") if content is None else _item(key, content, row[self.caption])

    def digest(self, unit: str) -> str:
        # datasets has no public digest of a data set's content; this one also names its cache files
        return _hash([unit, self.unit_size, self.rows._fingerprint])
