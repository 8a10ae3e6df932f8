"""Where captioned pictures come from: a folder, a Hugging Face data set, webdataset shards as img2dataset writes them.

A source is cut into units, small enough to be done again when one is interrupted. A unit yields ``Item`` for what can be used so far
as is known, and ``Skipped`` for what cannot, so that nothing disappears in silence.
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

from ..errors import SingDiffusionError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
LONGEST_CAPTION = 10_000  # characters; a tokenizer takes some 300 of them
CAPTIONS = ("text", "caption", "prompt")  # column names, the first that is there
PICTURES = ("image", "picture", "jpg", "png", "webp")


@dataclass(frozen=True)
class Item:
    """A picture that has a caption: ``picture`` is what ``PIL.Image.open`` takes, or a decoded ``PIL.Image.Image``."""

    key: str
    picture: Any
    caption: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """What cannot be used, and why."""

    key: str
    reason: str


class Source(Protocol):
    """Captioned pictures in units that can be done one by one."""

    def units(self) -> list[str]:
        """Names of the units, always the same in the same order."""
        ...

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        """What is in a unit, always in the same order."""
        ...

    def digest(self, unit: str) -> str:
        """What tells, without decoding anything, that a unit has changed since it was encoded."""
        ...


def open_source(source: str, unit_size: int = 2048, split: str = "train") -> Source:
    """The source that a path or a name stands for.

    Args:
        source: a folder of pictures (captions in .txt files beside them, or in metadata.jsonl or metadata.csv), a folder of .tar
            shards or a brace pattern of them, a folder that ``datasets`` saved, or a data set's hub id.
        unit_size: pictures a unit, where the source has no units of its own.
        split: of a Hugging Face data set.

    Raises:
        SingDiffusionError: it is none of these, or holds no pictures.
    """
    path = Path(source)
    if path.is_file() and path.suffix == ".tar":
        return Shards([path])
    if "{" in source:
        return Shards([Path(p) for p in _braces(source)])
    if path.is_dir() and any(path.glob("*.tar")):
        return Shards(sorted(path.glob("*.tar")))
    if path.is_dir() and ((path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()):
        return DataSet.from_disk(path, split, unit_size)
    if path.is_dir():
        return Folder(path, unit_size)
    if path.exists():
        raise SingDiffusionError(f"{source} is a file; a source is a folder, .tar shards or a data set's hub id")
    return DataSet.from_hub(source, split, unit_size)


def caption_of(raw: Any) -> tuple[str | None, str]:
    """(caption, "") or (None, why it cannot be used). A list of captions gives its first; a long one is cut."""
    if isinstance(raw, list | tuple):
        raw = raw[0] if raw else None
    if raw is None:
        return None, "has no caption"
    if isinstance(raw, bytes):
        try:
            raw = raw[: 4 * LONGEST_CAPTION].decode(
                "utf-8", errors="strict" if len(raw) <= 4 * LONGEST_CAPTION else "ignore"
            )
        except UnicodeDecodeError:
            return None, "its caption is not UTF-8"
    if not isinstance(raw, str):
        return None, f"its caption is no text but a {type(raw).__name__}"
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
            yield from (Skipped(key, "is named in the metadata but is not there") for key in self.absent)

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
    """(bytes, time of change) of a file, (0, 0) where there is none."""
    try:
        stat = file.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _hash(what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _sidecar(picture: Path) -> bytes | None:
    file = picture.with_suffix(".txt")
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        return opened.read(4 * LONGEST_CAPTION + 1)


def _metadata(folder: Path) -> dict[str, Any]:
    """file_name -> caption, as of Hugging Face's imagefolder."""
    lines, table = folder / "metadata.jsonl", folder / "metadata.csv"
    if lines.is_file():
        # not splitlines(): a caption may hold U+2028 and other ends of lines that JSON does not count as such
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
        raise SingDiffusionError(f"{file} is no CSV after line {rows.line_num}: {error}") from error


def _json_row(file: Path, number: int, line: str) -> tuple[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SingDiffusionError(f"{file}, line {number} is no JSON") from error
    return _row(f"{file}, line {number}", row)


def _row(where: str, row: Any) -> tuple[str, Any]:
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise SingDiffusionError(f"{where} has no file_name")
    return row["file_name"], next((row[name] for name in CAPTIONS if name in row), None)


# -- webdataset shards ------------------------------------------------------------------------------------------------


class Shards:
    """.tar shards of members KEY.jpg (or another picture), KEY.txt and, if there, KEY.json with a caption."""

    def __init__(self, files: list[Path]):
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise SingDiffusionError(f"shard {missing[0]} is not there ({len(missing)} of {len(files)} are missing)")
        self.files = {file.stem: file for file in files}
        if len(self.files) < len(files):
            raise SingDiffusionError(
                "two shards have the same name; put them into one folder each and encode these one by one"
            )

    def units(self) -> list[str]:
        return list(self.files)

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        """Groups of members with the same key; what a damaged archive still holds, and a line for where it breaks off."""
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
        if key is None:
            return
        picture = next((content for suffix, content in group.items() if f".{suffix}" in SUFFIXES), None)
        if picture is None:
            yield Skipped(key, "has no picture")
            return
        caption: Any = group.get("txt")
        if caption is None and "json" in group:
            try:
                told = json.loads(group["json"])
                caption = next((told[name] for name in CAPTIONS if name in told), None)
            except ValueError:
                yield Skipped(key, "its .json cannot be read")
                return
        yield _item(key, io.BytesIO(picture), caption)


def _key_and_suffix(name: str) -> tuple[str, str]:
    """The file's name up to its first dot, its folders before it, and what comes after: dots in folders' names do not count."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix


def _require_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError if an archive does not end as it should where ``tarfile`` stopped: it takes a damaged header for the end."""
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


class DataSet(_Numbered):
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
    def from_disk(cls, folder: Path, split: str, unit_size: int) -> DataSet:
        from datasets import DatasetDict, load_from_disk

        loaded = load_from_disk(str(folder))
        if isinstance(loaded, DatasetDict):
            if split not in loaded:
                raise SingDiffusionError(f"{folder} has no split {split!r}; it has {', '.join(map(str, loaded))}")
            loaded = loaded[split]
        return cls(loaded, str(folder), unit_size)

    @classmethod
    def from_hub(cls, name: str, split: str, unit_size: int) -> DataSet:
        from datasets import load_dataset

        try:
            loaded = load_dataset(name, split=split)
        except Exception as error:  # datasets and the hub raise many kinds
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SingDiffusionError(f"there is no folder {name}, and no data set was got: {line[:200]}") from error
        return cls(loaded, name, unit_size)

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        for i in self._range(unit):
            row = self.rows[i]
            stored = row[self.picture] or {}
            content = io.BytesIO(stored["bytes"]) if stored.get("bytes") else stored.get("path")
            key = f"row {i}"
            yield Skipped(key, "has no picture") if content is None else _item(key, content, row[self.caption])

    def digest(self, unit: str) -> str:
        return _hash([unit, self.unit_size, self.rows._fingerprint])
