"""JSON, JSON Lines and TOML from outside: what is wrong is one line, whatever it is."""

import json
import math
import os
import re
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from singdiffusion import SingDiffusionError, reading
from singdiffusion.reading import parse_json, parse_toml, read_json, read_json_lines, read_toml

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)

WRONG = {
    "": "x is empty; it must hold JSON",
    " \n": "x is empty; it must hold JSON",
    "{": "x cannot be read as JSON: Expecting property name",
    "[1]": "x must hold an object, not a list",
    "null": "x must hold an object, not null",
    "5": "x must hold an object, not a number",
    "true": "x must hold an object, not true or false",
    '"a"': "x must hold an object, not text",
    '{"a": 1, "a": 2}': "x cannot be read as JSON: the key 'a' stands there twice",
    '{"a": NaN}': "x cannot be read as JSON: it holds NaN",
    '{"a": 1e999}': "x cannot be read as JSON: 1e999 is too large for a number",
    '{"a": ' * 60 + "1" + "}" * 60: "x is nested too deeply; at most 50 levels are read",
    "[" * 100_000: "x is nested too deeply",
    "1" * 5000: "x cannot be read as JSON: a number has 5,000 digits",
}


class Both(BaseModel):
    count: int
    names: list[str]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_json_is_one_line(text):
    with pytest.raises(SingDiffusionError, match="^" + re.escape(WRONG[text])) as caught:
        parse_json(text, "x")
    assert "\n" not in str(caught.value)


def test_kinds_name_the_key():
    assert parse_json('{"count": 2, "names": ["a"]}', "x", Both) == Both(count=2, names=["a"])
    for text, line in {
        '{"count": 2}': "x: names is missing",
        '{"count": "b", "names": []}': "x: count must be a whole number, not 'b'",
        '{"count": 1, "names": [3]}': "x: 'names.0' must be text, not 3",
    }.items():
        with pytest.raises(SingDiffusionError, match=re.escape(line)):
            parse_json(text, "x", Both)


def test_the_infinity_of_diffusers_is_read():
    assert parse_json('{"lambda_min_clipped": -Infinity}', "x")["lambda_min_clipped"] == -math.inf


@given(JSON)
def test_what_json_writes_is_read(value):
    assert parse_json(json.dumps({"value": value}), "x") == {"value": value}


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_one_line(content):
    with suppress(SingDiffusionError):
        assert isinstance(parse_json(content, "x"), dict)


def test_files(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(SingDiffusionError, match=r"a.json cannot be read: No such file or directory"):
        read_json(file)
    file.write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(file) == {}
    file.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(SingDiffusionError, match=r"a.json is not UTF-8"):
        read_json(file)
    with pytest.raises(SingDiffusionError, match=r"cannot be read: it has more than 1 MiB"):
        read_json(tmp_path.joinpath("/dev/zero"), most=2**20)
    with pytest.raises(SingDiffusionError, match="cannot be read: Is a directory"):
        read_json(tmp_path)
    file.write_text('{"a": 1}\n\n[2]\n{\n')
    rows = read_json_lines(file)
    assert [next(rows), next(rows)] == [(f"{file}, line 1", {"a": 1}), (f"{file}, line 3", [2])]
    with pytest.raises(SingDiffusionError, match="line 4 cannot be read as JSON"):
        next(rows)


def test_pipes(tmp_path, monkeypatch):
    """What comes through is read; one without a writer, or a silent one, is not waited for without end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SingDiffusionError, match="pipe is empty"):
        read_json(pipe)
    reader, writable = os.pipe()
    threading.Timer(0.2, lambda: (os.write(writable, b'{"b": 1}'), os.close(writable))).start()
    assert read_json(Path(f"/dev/fd/{reader}")) == {"b": 1}
    monkeypatch.setattr(reading, "PATIENCE", 0.1)
    reader, writable = os.pipe()
    with pytest.raises(SingDiffusionError, match="nothing came through this pipe in 0 seconds"):
        read_json(Path(f"/dev/fd/{reader}"))


def test_toml(tmp_path):
    (tmp_path / "a.toml").write_text("a = 1\n")
    assert read_toml(tmp_path / "a.toml") == {"a": 1}
    for text in ("a =", "a = 1\na = 2", "a = " + "[" * 5000, "a = " + "[" * 60 + "]" * 60):
        with pytest.raises(SingDiffusionError, match=r"^x (cannot be read as TOML|is nested too deeply)"):
            parse_toml(text, "x")
