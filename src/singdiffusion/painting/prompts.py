"""Captions to paint: the paper's four prompts, or a file of them (text, JSON, CSV or JSON Lines)."""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError
from ..reading import in_words, read_json, read_json_lines, read_text

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
            per line. A row holds its caption under one of ``COLUMNS`` and may hold an id, text or a number, under one of ``NAMES``.

    Raises:
        SingDiffusionError: the file cannot be read, is not UTF-8, has no caption, an empty one, or the same id twice.
    """
    rows = list(_READERS.get(file.suffix.lower(), _plain)(file))
    if not rows:
        raise SingDiffusionError(f"{file} holds no prompt; write one per line")
    return _unique(file, [_prompt(where, i, name, caption) for i, (where, name, caption) in enumerate(rows)])


Row = tuple[str, Any, Any]  # place in the file, id or None, caption


def _prompt(where: str, number: int, name: Any, caption: Any) -> Prompt:
    if caption is None:
        raise SingDiffusionError(f"{where} has no caption ({', '.join(COLUMNS)})")
    if not isinstance(caption, str):
        raise SingDiffusionError(f"{where} has a caption that is not text but {in_words(caption)}")
    if not isinstance(name, str | int | float | None) or isinstance(name, bool):
        raise SingDiffusionError(f"{where} has an id that is neither text nor a number but {in_words(name)}")
    words, id = plain_text(caption), str(number if name is None else name)
    if not words:
        raise SingDiffusionError(f"{where} has an empty caption")
    require_utf8(words, f"the caption of {where}")
    require_utf8(id, f"the id of {where}")
    return Prompt(id, words)


def require_utf8(text: str, what: str, setting: str | None = None) -> None:
    """Check that a text can be written as UTF-8.

    Args:
        text: such as of JSON, whose ``"\\ud800"`` is half of a character, or of the command line, whose bytes may be of another encoding.
        what: it is, for the message.
        setting: name of the option to change, as for ``SingDiffusionError``.

    Raises:
        SingDiffusionError: it cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise SingDiffusionError(f"{what} is not valid UTF-8: it holds half of a character, {half}", setting) from error


def _unique(file: Path, prompts: list[Prompt]) -> list[Prompt]:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise SingDiffusionError(f"{file} has the id {prompt.id!r:.80} twice; ids name pictures and must differ")
        seen.add(prompt.id)
    return prompts


def _plain(file: Path) -> Iterator[Row]:
    for i, line in enumerate(read_text(file).split("\n"), 1):
        if plain_text(line):
            yield f"{file}, line {i}", None, line


def _json(file: Path) -> Iterator[Row]:
    content = read_json(file, Any)
    if isinstance(content, dict):
        yield from ((f"{file}, {name!r:.80}", name, caption) for name, caption in content.items())
    elif isinstance(content, list):
        yield from (_row(f"{file}, entry {i}", each) for i, each in enumerate(content, 1))
    else:
        raise SingDiffusionError(f"{file} must hold an object of captions by id, or a list, not {in_words(content)}")


def _json_lines(file: Path) -> Iterator[Row]:
    yield from (_row(where, entry) for where, entry in read_json_lines(file))


def _table(file: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    try:
        heads = list(reader.fieldnames or ())
        if not set(COLUMNS) & set(heads):
            raise SingDiffusionError(f"{file} needs a column {' or '.join(COLUMNS)}; it has {', '.join(heads):.200}")
        twice = next((name for name in (*COLUMNS, *NAMES) if heads.count(name) > 1), None)
        if twice is not None:
            raise SingDiffusionError(f"{file} has the column {twice} twice")
        for row in reader:
            where, more = f"{file}, line {reader.line_num}", row.pop(None, ())  # type: ignore[call-overload]
            if any(more):
                raise SingDiffusionError(f"{where} has more cells than the heading; quote a caption that has a comma")
            yield _row(where, row)
    except csv.Error as error:
        raise SingDiffusionError(f"{file} is not CSV after line {reader.line_num}: {error}") from error


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {".json": _json, ".jsonl": _json_lines, ".csv": _table}


def _row(where: str, entry: Any) -> Row:
    if not isinstance(entry, dict):
        return where, None, entry
    first = lambda names: next((entry[name] for name in names if entry.get(name) is not None), None)  # noqa: E731
    return where, first(NAMES), first(COLUMNS)


def file_names(texts: Iterable[str], longest: int = 60) -> dict[str, str]:
    """Return text -> its ``slug``; texts with the same slug get letters or numbers behind it, so that no two names are alike."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(texts):
        base = slug(text, longest)
        ends = itertools.chain(
            ["", *(f"-{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")], (f"-{i}" for i in itertools.count(27))
        )
        names[text] = next(name for end in ends if (name := base + end) not in taken)
        taken.add(names[text])
    return names


def slug(text: str, longest: int = 40) -> str:
    """Return a text as part of a file name: letters and digits of any script, in lower case, with dashes for all else.

    Args:
        longest: characters of the name, which has at most three bytes for each: file systems allow 255 bytes.
    """
    short = re.sub(r"[\W_]+", "-", text.lower())[:longest].encode()[: 3 * longest].decode(errors="ignore")
    return short.strip("-") or "picture"


def too_long(prompts: Sequence[Prompt], tokenizer: Any) -> list[Prompt]:
    """Return the prompts whose end a tokenizer cuts off (CLIP: 77 tokens, including start and end)."""
    limit = tokenizer.model_max_length
    counts = (len(ids) for ids in tokenizer([p.text for p in prompts], truncation=False, verbose=False).input_ids)
    return [prompt for prompt, count in zip(prompts, counts, strict=True) if count > limit]
