"""Captions as every source stores them, read by one function, and the caption files that lie beside a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import SingDiffusionError, reason
from ..painting.prompts import plain_text
from ..reading import in_words, parse_json

LONGEST_CAPTION = 10_000  # characters; a tokenizer takes some 300 of them
MOST_BYTES = 4 * LONGEST_CAPTION  # of a caption in UTF-8
MOST_CAPTIONS = 1000  # of a picture; their token ids take 0.3 MB per encoder
MOST_JSON = 10_000_000  # bytes of a .json with a caption
CAPTIONS = (
    "text",
    "caption",
    "prompt",
    "texts",
    "captions",
    "prompts",
)  # names of captions; the first with a value is used
CAPTION_SUFFIXES = (
    ".txt",
    ".text",
    ".caption",
    ".captions",
    ".json",
)  # of files beside a picture; the first with a value is used
NONE = "has no caption"


class Captions(NamedTuple):
    """The captions of a picture, or the reason why there are none.

    Attributes:
        texts: each once, in the order in which they were found.
        notes: what had to be changed or left out.
        reason: why there are none; "" where there are some.
    """

    texts: tuple[str, ...]
    notes: tuple[str, ...] = ()
    reason: str = ""


def caption_of(raw: Any) -> Captions:
    """Return the captions in a stored value: text, UTF-8 bytes, or a list of them, whose entries are all captions of the picture.

    A caption is what ``plain_text`` returns: without invisible characters, in NFC, words one space apart. A long one is cut. Entries
    of a list that cannot be used are named in a note.
    """
    entries = list(raw) if isinstance(raw, list | tuple) else [raw]
    found = [_single(entry) for entry in entries] or [Captions((), reason=NONE)]
    texts = tuple(dict.fromkeys(text for one in found for text in one.texts))
    if not texts:
        return Captions((), reason=found[0].reason)
    lost = [f"a caption left out: {one.reason}" for one in found if one.reason]
    lost += [f"captions left out: {len(texts):,}, of which {MOST_CAPTIONS:,} are used"] * (len(texts) > MOST_CAPTIONS)
    notes = tuple(dict.fromkeys([*(note for one in found for note in one.notes), *lost]))
    return Captions(texts[:MOST_CAPTIONS], notes)


def _single(raw: Any) -> Captions:
    if raw is None:
        return Captions((), reason=NONE)
    cut = isinstance(raw, bytes) and len(raw) > MOST_BYTES
    if isinstance(raw, bytes):
        try:  # a cut may fall within a character
            raw = raw[:MOST_BYTES].decode("utf-8", "ignore" if cut else "strict")
        except UnicodeDecodeError:
            return Captions((), reason="its caption is not UTF-8")
    if not isinstance(raw, str):
        return Captions((), reason=f"its caption is not text but {in_words(raw)}")
    cut = cut or len(raw) > LONGEST_CAPTION
    words = plain_text(raw[:LONGEST_CAPTION])
    if not words:
        return Captions((), reason="its caption is empty")
    if any("\ud800" <= c <= "\udfff" for c in words):
        return Captions((), reason="its caption has half a character (a lone surrogate of UTF-16)")
    return Captions((words,), ("caption cut",) if cut else ())


def of_row(row: Mapping[str, Any]) -> Any:
    """Return the value of a row's caption: that of the first name among ``CAPTIONS`` that holds one; None where none does."""
    values = [row[name] for name in CAPTIONS if row.get(name) is not None]
    return next((value for value in values if caption_of(value).texts), values[0] if values else None)


def of_json(content: bytes) -> Captions:
    """Return the captions in a JSON object, under one of the names ``CAPTIONS``."""
    try:
        if len(content) > MOST_JSON:
            raise SingDiffusionError(f"its .json cannot be read: it has more than {MOST_JSON:,} bytes")
        return caption_of(of_row(parse_json(content, "its .json")))
    except SingDiffusionError as error:
        return Captions((), reason=str(error))


def of_file(suffix: str, content: bytes) -> Captions:
    """Return the captions in the content of a caption file: one of plain text, or those in a JSON object."""
    return of_json(content) if suffix == ".json" else caption_of(content)


def read_beside(file: Path) -> Captions:
    """Return the captions in a caption file beside a picture."""
    suffix = file.suffix.lower()
    try:
        with file.open("rb") as opened:
            content = opened.read((MOST_JSON if suffix == ".json" else MOST_BYTES) + 1)
    except OSError as error:
        return Captions((), reason=f"its caption cannot be read: {reason(error)}")
    return of_file(suffix, content)


def chosen(found: Iterable[tuple[str, Captions]]) -> Captions:
    """Return the captions of the first place that has some, with a note on other places that have other captions.

    Args:
        found: (place, its captions), the place that counts first in front.
    """
    places = list(found)
    used = next((row for row in places if row[1].texts), None)
    if used is None:
        return places[0][1] if places else Captions((), reason=NONE)
    place, captions = used
    others = [name for name, other in places if set(other.texts) - set(captions.texts)]
    more = [f"one of several places of captions used: {place}, not {', '.join(others)}"] if others else []
    bad = [f"a caption not used: {name}, {other.reason}" for name, other in places if other.reason not in ("", NONE)]
    return captions._replace(notes=(*captions.notes, *more, *bad))


class Beside:
    """The files beside pictures, by folder, for finding a picture's caption files.

    Args:
        files: all that may be captions.
    """

    def __init__(self, files: Iterable[Path]):
        self._names: dict[Path, dict[str, list[str]]] = {}
        for file in files:
            stem, suffix = file.stem, file.suffix.lower()
            self._names.setdefault(file.parent, {}).setdefault(stem + suffix, []).append(file.name)
        self._stems: dict[Path, dict[str, list[str]]] = {}
        for folder, names in self._names.items():
            for name in sorted(one for group in names.values() for one in group):
                self._stems.setdefault(folder, {}).setdefault(name.partition(".")[0], []).append(name)

    def captions(self, picture: Path) -> list[Path]:
        """Return the caption files of a picture: NAME.txt before NAME.png.txt, then those of the other suffixes."""
        names = self._names.get(picture.parent, {})
        wanted = (stem + suffix for suffix in CAPTION_SUFFIXES for stem in (picture.stem, picture.name))
        return [picture.with_name(name) for key in wanted for name in sorted(names.get(key, []), reverse=True)]

    def others(self, picture: Path) -> list[str]:
        """Return the names of all files beside a picture that begin like it."""
        names = self._stems.get(picture.parent, {}).get(picture.name.partition(".")[0], [])
        return [name for name in names if name.startswith(f"{picture.stem}.")]
