"""Wrong inputs that keep the structure of right ones: JSON with changed values, damaged bytes, tar archives, command lines."""

from __future__ import annotations

import copy
import gzip
import io
import json
import lzma
import math
import tarfile
from typing import Any

from hypothesis import strategies as st

LONG = "x" * 300
NESTED: Any = 1
for _ in range(40):
    NESTED = [NESTED]

VALUES = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 2, 3, 255, 10**5, 10**7, 10**12, 10**30, -(10**9)]),
    st.sampled_from([0.0, -0.0, 0.5, 1e-300, 1e300, math.nan, math.inf, -math.inf]),
    st.sampled_from(
        ["", " ", "a", "10", "none", "\x1b[31m", "\ud800", "\0", "../x", "/etc/passwd", "$x_1$", "[red]", LONG]
    ),
    st.sampled_from([[], {}, [1, 1], [None], [[]], [0] * 100, {"a": 1}, NESTED]),
).map(copy.deepcopy)  # the lists among them are changed further


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Return the paths of all values within a JSON value, its own among them."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in list(inner)[:40] for found in places(each, (*path, key)))]


@st.composite
def changed(draw: Any, good: Any) -> Any:
    """A JSON value with one to three values replaced, removed or added."""
    value = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(value)))
        if not path:
            if draw(st.integers(0, 20)) == 0:
                value = draw(VALUES)
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        what = draw(st.sampled_from(["replace"] * 6 + ["remove", "add"]))
        if what == "replace":
            parent[path[-1]] = draw(VALUES)
        elif what == "remove":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(["", "a", "_class_name", "__proto__", LONG]))] = draw(VALUES)
        else:
            parent.insert(0, draw(VALUES))
    return value


@st.composite
def documents(draw: Any, good: Any) -> bytes:
    """The bytes of a JSON document: changed values most of the time, otherwise text that is no JSON."""
    text = json.dumps(draw(changed(good)) if draw(st.integers(0, 9)) else good)
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged(text.encode()))
    return text.encode()


SPOILS = [
    b"",
    b"\0",
    b"\xff",
    b"{",
    b"[" * 3000,
    b"null",
    b"\x1f\x8b",
    b"\xef\xbb\xbf",
    b'"a": 1, "a": 2,',
    b"NaN",
    b"9" * 5000,
]


@st.composite
def damaged(draw: Any, good: bytes) -> bytes:
    """Bytes that are cut, overwritten or extended somewhere; near the beginning more often than elsewhere."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(len(data), draw(st.sampled_from([64, 2048, len(data)])))))
        what = draw(st.sampled_from(["cut", "flip", "zeros", "insert", "replace", "number"]))
        if what == "cut":
            del data[at:]
        elif what == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "zeros":
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        elif what == "insert":
            data[at:at] = draw(st.sampled_from(SPOILS))
        elif what == "number":
            data[at : at + 8] = draw(
                st.sampled_from([b"\xff" * 8, bytes(8), (2**62).to_bytes(8, "little"), b"99999999"])
            )
        elif draw(st.integers(0, 10)) == 0:
            data[:] = draw(st.sampled_from(SPOILS))
    return bytes(data)


MEMBERS = [
    "a.jpg",
    "a.png",
    "a.txt",
    "a.json",
    "b.png",
    "b.txt",
    "../c.png",
    "/d.png",
    "",
    ".",
    "a" * 300 + ".png",
    "e/\xff.png",
    "\x1b.txt",
]
HEADERS = [
    "size",
    "path",
    "mtime",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.map",
    "GNU.sparse.realsize",
    "hdrcharset",
    "linkpath",
]
TEXTS = ["", "5", "-1", "1e9", "9" * 30, "nan", "1,2,3", "\ud800", "BINARY", "x" * 2000, "0,512,10"]


@st.composite
def archives(draw: Any, picture: bytes) -> bytes:
    """A .tar of members of many kinds, with PAX headers of all sorts, and sometimes damaged bytes or compression."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=draw(st.sampled_from([0, 1, 2]))) as archive:
        for _ in range(draw(st.integers(0, 5))):
            member = tarfile.TarInfo(draw(st.sampled_from(MEMBERS)))
            content = draw(
                st.sampled_from(
                    [
                        picture,
                        b"a red room",
                        b"",
                        b"5",
                        b'{"caption": "a"}',
                        b"null",
                        b"[" * 2000,
                        b"\xff",
                        b"\xed\xa0\x80",
                    ]
                )
            )
            member.size = len(content)
            member.type = draw(
                st.sampled_from(
                    [tarfile.REGTYPE] * 6 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE]
                )
            )
            member.linkname = draw(st.sampled_from(["", "a.png", "nothing", "../x"]))
            extra = draw(st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(TEXTS), max_size=2))
            member.pax_headers = {name: value for name, value in extra.items() if _encodable(value)}
            try:
                archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
            except (ValueError, OverflowError, UnicodeError, OSError):
                continue  # tarfile cannot write it
    pack = draw(st.sampled_from([bytes, bytes, bytes, lambda data: gzip.compress(data, mtime=0), lzma.compress]))
    data = pack(buffer.getvalue())
    return draw(damaged(data)) if draw(st.integers(0, 2)) == 0 else data


def _encodable(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)


WORDS = [
    "", " ", "a cat", "tiny", "tiny-unet", "none", "auto", "-1", "0", "1", "7.5", "nan", "inf", "1e300", "10000000000000", "16384", "x", "\x1b[2J",
    "\udcff", "$x$", "[red]a", "../x", "/dev/full", "/dev/null", "/proc/self/mem", "a/b/c", "--", "--out", "a=b", "{0..99999999}", LONG, "true",
    "cpu", "cuda", "meta", "float16", "ddim", "DDIMScheduler", "EulerDiscreteScheduler", "black", "#zzz",
]  # fmt: skip


def command_lines(flags: dict[str, list[str]]) -> st.SearchStrategy[list[str]]:
    """Words of a command line: a command, and values behind its flags that fit them or not.

    Args:
        flags: command -> its flags.
    """
    word = st.sampled_from(WORDS)
    option = lambda command: st.tuples(st.sampled_from(flags[command]), word)  # noqa: E731
    line = lambda command: st.tuples(  # noqa: E731
        st.just(command.split()), st.lists(word, max_size=2), st.lists(option(command), max_size=4)
    )
    return (
        st.sampled_from(sorted(flags))
        .flatmap(line)
        .map(lambda parts: [*parts[0], *parts[1], *(w for o in parts[2] for w in o)])
    )
