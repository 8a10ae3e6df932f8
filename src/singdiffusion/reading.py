"""One reader for JSON, JSON Lines and TOML, whoever wrote them: bounded in size and depth, without duplicate keys, checked by pydantic."""

from __future__ import annotations

import errno
import json
import math
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from .compat import toml
from .errors import SingDiffusionError, reason, validation_line

T = TypeVar("T")
Object = dict[str, Any]

MOST_BYTES = 64 * 2**20  # a manifest of 100,000 shards has 40 MiB, configurations a few KiB
PATIENCE = 30.0  # seconds
DEEPEST = 50  # objects and lists within each other; ours have 6
MOST_DIGITS = 4000  # Python reads no number of more than 4,300
_WORDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def read_text(file: Path, most: int = MOST_BYTES) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Args:
        file: a file, or a pipe, of which no more than ``most`` bytes are read.
        most: bytes that it may have.

    Raises:
        SingDiffusionError: it cannot be read, is larger, or is not UTF-8.
    """
    try:
        content = _pipe(file, most + 1) if file.is_fifo() else _file(file, most + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise SingDiffusionError(f"{file} cannot be read: {reason(error)}") from error
    if len(content) > most:
        raise SingDiffusionError(f"{file} cannot be read: it has more than {most // 2**20} MiB")
    return _decoded(content, file)


def read_json(file: Path, kind: type[T] = Object, most: int = MOST_BYTES) -> T:
    """Return the JSON value in a file.

    Args:
        file: of UTF-8.
        kind: what it must hold: a type that pydantic checks, such as a model, ``dict[str, str]`` or ``list[float]``.
        most: bytes that it may have.

    Raises:
        SingDiffusionError: the file cannot be read, is not JSON, or holds something other than ``kind``.
    """
    return parse_json(read_text(file, most), file, kind)


def parse_json(text: str | bytes, where: Any, kind: type[T] = Object) -> T:
    """Return the JSON value in a text.

    Args:
        text: UTF-8 where it is bytes.
        where: its origin, for messages.
        kind: what it must hold, as for ``read_json``.

    Raises:
        SingDiffusionError: it is not JSON (a duplicate key and NaN count as mistakes), is nested deeply, or is something other than ``kind``.
    """
    text = _decoded(text, where) if isinstance(text, bytes) else text
    if not text.strip():
        raise SingDiffusionError(f"{where} is empty; it must hold JSON")
    try:
        content = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_float=_in_range,
            parse_int=_whole,
            parse_constant=_without_nan,
        )
        _require_shallow(content)
    except RecursionError as error:
        raise SingDiffusionError(f"{where} is nested too deeply; at most {DEEPEST} levels are read") from error
    except ValueError as error:
        raise SingDiffusionError(f"{where} cannot be read as JSON: {reason(error)}") from error
    return checked(content, where, kind)


def checked(content: Any, where: Any, kind: type[T] = Object) -> T:
    """Return a value that was read, as ``kind``.

    Raises:
        SingDiffusionError: it is something else; the message names the first key that is wrong.
    """
    if kind == Object:
        if not isinstance(content, dict):
            raise SingDiffusionError(f"{where} must hold an object, not {in_words(content)}")
        return cast(T, content)
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise SingDiffusionError(f"{where}: {validation_line(error, 'the content')}") from error


def read_json_lines(file: Path, most: int = MOST_BYTES) -> Iterator[tuple[str, Any]]:
    """Yield (place, value) of each line of a .jsonl file that is not empty; a place is "FILE, line 3".

    Raises:
        SingDiffusionError: the file cannot be read, or a line is not JSON.
    """
    # not splitlines(): it also splits at U+2028 and others, which JSON allows within a string
    for number, line in enumerate(read_text(file, most).split("\n"), 1):
        if line.strip():
            where = f"{file}, line {number}"
            yield where, parse_json(line, where, Any)


def read_toml(file: Path) -> Object:
    """Return the content of a TOML file.

    Raises:
        SingDiffusionError: it cannot be read or is not TOML.
    """
    return parse_toml(read_text(file), file)


def parse_toml(text: str, where: Any) -> Object:
    """Return the content of a TOML text.

    Raises:
        SingDiffusionError: it is not TOML (a duplicate key counts as a mistake), or is nested deeply.
    """
    try:
        content = toml().loads(text)
        _require_shallow(content)
    except RecursionError as error:
        raise SingDiffusionError(f"{where} is nested too deeply; at most {DEEPEST} levels are read") from error
    except ValueError as error:
        raise SingDiffusionError(f"{where} cannot be read as TOML: {reason(error)}") from error
    return content


def in_words(value: Any) -> str:
    """Return what a JSON value is: "an object", "a list", "text", "a number", "true or false" or "null"."""
    return _WORDS.get(type(value), "null" if value is None else f"a {type(value).__name__}")


def _file(file: Path, most: int) -> bytes:
    with file.open("rb") as opened:
        return opened.read(most)


def _pipe(file: Path, most: int) -> bytes:
    """Return what comes through a pipe; one without a writer is empty, and a silent writer is waited for ``PATIENCE`` seconds."""
    content, handle = b"", os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while len(content) < most:
            try:
                piece = os.read(handle, 2**16)
            except BlockingIOError as error:  # a writer that has nothing yet
                if not select.select([handle], [], [], PATIENCE)[0]:
                    line = f"nothing came through this pipe in {PATIENCE:.0f} seconds"
                    raise TimeoutError(errno.ETIMEDOUT, line) from error
                continue
            if not piece:
                break
            content += piece
    finally:
        os.close(handle)
    return content[:most]


def _decoded(content: bytes, where: Any) -> str:
    try:
        return content.decode("utf-8-sig")  # spreadsheets begin UTF-8 with a byte order mark
    except UnicodeDecodeError as error:
        raise SingDiffusionError(f"{where} is not UTF-8") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Object:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.80} stands there twice")
    return found


def _in_range(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits:.40} is too large for a number")
    return value


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _without_nan(name: str) -> float:
    if name == "NaN":
        raise ValueError("it holds NaN")
    return float(name)  # diffusers writes -Infinity for DPM-Solver's lambda_min_clipped


def _require_shallow(content: Any) -> None:
    level = [content]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise RecursionError
