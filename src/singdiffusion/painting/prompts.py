"""Captions to paint: the paper's four prompts, or a file of them (text, JSON, CSV or JSON Lines)."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError

COLUMNS = ("caption", "prompt", "text")  # of a row's caption: the first that is there
NAMES = ("id", "image_id", "key", "file_name")  # of a row's id; a row without one gets its number

JOINERS = "\u200c\u200d"  # invisible, but they shape letters and join emoji, so they stay within a text
_INVISIBLE = re.compile(  # control characters but white space, soft hyphens, marks of direction and byte order, zero widths
    "[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
)


@dataclass(frozen=True)
class Prompt:
    """A caption, and the id that names its pictures."""

    id: str
    text: str


PAPER_PROMPTS = (
    "solid black background",
    "solid white background",
    "monochrome line-art logo on a black background",
    "monochrome line-art logo on a white background",
)
"""The prompts of table 1 of Zhang et al., "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR 2024."""


def plain_text(text: str) -> str:
    """Return a text as it is seen: without invisible characters, in Unicode's form NFC, its words one space apart.

    Joiners stay within the text and are removed at its ends. Letters that only look alike (NFKC) are not changed.
    """
    composed = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(composed.split()).strip(JOINERS + " ")


def named(texts: Iterable[str]) -> list[Prompt]:
    """Return captions with their number, from 0, as id."""
    return [Prompt(str(i), text) for i, text in enumerate(texts)]


def read_prompts(file: Path) -> list[Prompt]:
    """Return the captions of a file, in its order.

    Args:
        file: its suffix names the format. ``.json``: an object {id: caption} as the authors' ``COCO_3W_prompt.json``, or a list of
            captions or rows. ``.jsonl``: one caption or row per line. ``.csv``: rows, with a heading. Otherwise: text, one caption
            per line. A row holds its caption under one of ``COLUMNS`` and may hold an id under one of ``NAMES``.

    Raises:
        SingDiffusionError: the file cannot be read, is not UTF-8, has no caption, an empty one, or the same id twice.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SingDiffusionError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SingDiffusionError(f"{file} is not UTF-8") from error
    rows = _READERS.get(file.suffix.lower(), _plain)(file, text)
    if not rows:
        raise SingDiffusionError(f"{file} holds no prompt; write one per line")
    return _unique(file, [_prompt(where, i, name, caption) for i, (where, name, caption) in enumerate(rows)])


Row = tuple[str, Any, Any]  # place in the file, id or None, caption


def _prompt(where: str, number: int, name: Any, caption: Any) -> Prompt:
    if not isinstance(caption, str):
        what = "no caption" if caption is None else f"a caption that is not text but a {type(caption).__name__}"
        raise SingDiffusionError(f"{where} has {what} ({', '.join(COLUMNS)})")
    words = plain_text(caption)
    if not words:
        raise SingDiffusionError(f"{where} has an empty caption")
    return Prompt(str(number if name is None else name), words)


def _unique(file: Path, prompts: list[Prompt]) -> list[Prompt]:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise SingDiffusionError(f"{file} has the id {prompt.id!r} twice; ids name pictures and must differ")
        seen.add(prompt.id)
    return prompts


def _plain(file: Path, text: str) -> list[Row]:
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if plain_text(line)]
    return [(f"{file}, line {i}", None, line) for i, line in lines]


def _json(file: Path, text: str) -> list[Row]:
    try:
        content = json.loads(text, object_pairs_hook=_Object)
    except ValueError as error:
        raise SingDiffusionError(f"{file} is not JSON: {error}") from error
    if isinstance(content, _Object):
        return [(f"{file}, {name!r}", name, caption) for name, caption in content.pairs]
    if not isinstance(content, list):
        raise SingDiffusionError(f"{file} must be an object of captions by id, or a list")
    return [_row(f"{file}, entry {i}", each) for i, each in enumerate(content, 1)]


def _json_lines(file: Path, text: str) -> list[Row]:
    rows = []
    # not splitlines(): it also splits at U+2028, which a JSON text may hold
    for i, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                entry = json.loads(line, object_pairs_hook=_Object)
            except ValueError as error:
                raise SingDiffusionError(f"{file}, line {i} is not JSON") from error
            rows.append(_row(f"{file}, line {i}", entry))
    return rows


def _table(file: Path, text: str) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not set(COLUMNS) & set(reader.fieldnames or ()):
            raise SingDiffusionError(
                f"{file} needs a column {' or '.join(COLUMNS)}; it has {', '.join(reader.fieldnames or ())}"
            )
        return [_row(f"{file}, line {reader.line_num}", _Object(list(row.items()))) for row in reader]
    except csv.Error as error:
        raise SingDiffusionError(f"{file} is not CSV after line {reader.line_num}: {error}") from error


_READERS: dict[str, Callable[[Path, str], list[Row]]] = {".json": _json, ".jsonl": _json_lines, ".csv": _table}


@dataclass(frozen=True)
class _Object:
    """A JSON object with all its pairs, because ``dict`` silently drops one of two with the same key."""

    pairs: list[tuple[str, Any]]


def _row(where: str, entry: Any) -> Row:
    if not isinstance(entry, _Object):
        return where, None, entry
    row = dict(entry.pairs)
    first = lambda names: next((row[name] for name in names if row.get(name) is not None), None)  # noqa: E731
    return where, first(NAMES), first(COLUMNS)


def file_names(texts: Iterable[str], longest: int = 60) -> dict[str, str]:
    """Return text -> its ``slug``; texts with the same slug get letters behind it, so that no two names are alike."""
    names: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        base = name = slug(text, longest)
        letters = iter("bcdefghijklmnopqrstuvwxyz")
        while name in names.values():
            name = f"{base}-{next(letters, len(names))}"
        names[text] = name
    return names


def slug(text: str, longest: int = 40) -> str:
    """Return a text as part of a file name: letters and digits of any script, in lower case, with dashes for all else."""
    return re.sub(r"[\W_]+", "-", text.lower())[:longest].strip("-") or "picture"


def too_long(prompts: Sequence[Prompt], tokenizer: Any) -> list[Prompt]:
    """Return the prompts whose end a tokenizer cuts off (CLIP: 77 tokens, including start and end)."""
    limit = tokenizer.model_max_length
    counts = (len(ids) for ids in tokenizer([p.text for p in prompts], truncation=False, verbose=False).input_ids)
    return [prompt for prompt, count in zip(prompts, counts, strict=True) if count > limit]
