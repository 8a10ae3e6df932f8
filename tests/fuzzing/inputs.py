"""Wrong inputs that keep the structure of right ones: tar archives and command lines. Those of JSON are in ``tests.mutations``."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from typing import Any

from hypothesis import strategies as st

from tests.mutations import LONG, damaged

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
