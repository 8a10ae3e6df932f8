"""The members of a .tar archive, header by header.

``tarfile`` trusts headers: it reads as many bytes as an extended header claims, follows chains of them by recursion, and raises many kinds
of errors. Here every size is checked before it is read, and a bad header costs the member that it describes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import reason

BLOCK = tarfile.BLOCKSIZE
MOST_HEADER = 2**20  # bytes of an extended header, which holds a name and some times
MOST_MEMBERS = 500_000  # a shard of 10,000 pictures has 30,000
MOST_ZEROS = 2**30  # bytes behind the end; tar pads with some thousand
MOST_LINKS = 10  # links that lead to each other
EXPANSION, LEAST_EXPANSION = 100, 2**30  # a compressed archive may expand to so many times its size, or so many bytes
CUT = "unexpected end of data"
SPARSE = "is a sparse member, which is not read: pack it without holes"
UNCLEAR = "a damaged header, or more behind its end"
_OPENERS: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\0", lzma.open),
    (b"\x5d\0\0", lzma.open),
)
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_STATED = (*_EXTENDED, *_LONG, tarfile.XGLTYPE)  # headers about the next member, or about all
_WITHOUT_CONTENT = (tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_MORE_SPARSE, _MORE_SPARSE_NEXT = 482, 504  # bytes that state whether another block of a sparse member's map follows


class Damage(Exception):
    """Why an archive cannot be read further."""


class Member(NamedTuple):
    """A file or a link in an archive.

    Attributes:
        name: bytes that are not UTF-8 are lone surrogates.
        at, size: first byte and number of bytes of its content; of a link -1 and 0 until it is followed.
        link: name of the member that a link leads to.
        bad: why it cannot be read, or "".
    """

    name: str
    at: int = -1
    size: int = 0
    link: str = ""
    bad: str = ""


class Archive:
    """An open archive, plain or compressed by gzip, bzip2 or xz.

    Args:
        file: its path.

    Raises:
        Damage: it cannot be opened.
    """

    def __init__(self, file: Path):
        self._names: dict[str, Member] = {}
        try:
            start, plain = _start(file), os.path.getsize(file)
            opener = next((opener for magic, opener in _OPENERS if start.startswith(magic)), None)
            self._opened = file.open("rb") if opener is None else opener(file, "rb")
        except Exception as error:
            raise Damage(reason(error)) from error
        self.compressed = opener is not None
        self._end = max(EXPANSION * plain, LEAST_EXPANSION) if self.compressed else plain

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def members(self) -> Iterator[Member]:
        """Yield the files and links in the order of the archive.

        Raises:
            Damage: it cannot be read further, or has too many members.
        """
        at, stated = 0, _Stated()
        for count in range(MOST_MEMBERS + 1):
            header, at = self._described(at, stated)
            if header is None:
                self._require_zeros(at)
                return
            member, at = self._member(header, at, stated)
            stated = _Stated()
            if member is not None and count < MOST_MEMBERS:
                if not member.link and not member.bad:
                    self._names[member.name] = member
                yield member
        raise Damage(f"it has more than {MOST_MEMBERS:,} members")

    def followed(self, member: Member) -> Member | None:
        """Return the file that a member is, or that it is a link to among those read so far; None where there is none."""
        name = member.name
        for _ in range(MOST_LINKS):
            if member.at >= 0:
                return member._replace(name=name)
            found = self._names.get(member.link)
            if found is None:
                return None
            member = found
        return None

    def read(self, member: Member, most: int) -> bytes:
        """Return the content of a file, up to ``most`` bytes.

        Raises:
            Damage: the archive ends before it.
        """
        return self._read(member.at, min(member.size, most))

    def _described(self, at: int, stated: _Stated) -> tuple[tarfile.TarInfo | None, int]:
        """Return the header of the next member, and where it ends; what stands before it about the member goes to ``stated``."""
        while True:
            header, at = self._header(at), at + BLOCK
            if header is None or header.type not in _STATED:
                return header, at
            if header.type != tarfile.XGLTYPE:  # those about all members hold comments
                if header.size > MOST_HEADER:
                    stated.bad = f"has an extended header of more than {MOST_HEADER:,} bytes"
                else:
                    stated.add(header.type, self._read(at, header.size))
            at += _blocks(header.size)

    def _member(self, header: tarfile.TarInfo, at: int, stated: _Stated) -> tuple[Member | None, int]:
        """Return a member, None for a folder or a device, and where its content ends."""
        name = stated.values.get("GNU.sparse.name") or stated.values.get("path", header.name)
        if header.issym() or header.islnk():
            link = stated.values.get("linkpath", header.linkname)
            if header.issym():
                link = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
            member = Member(name, link=link, bad=stated.bad)
            return self.followed(member) or member, at
        if header.type in _WITHOUT_CONTENT:
            return None, at
        size = stated.size(header.size)
        if header.type == tarfile.GNUTYPE_SPARSE:
            stated.bad, at = SPARSE, self._behind_map(at)
        return Member(name, at, size, bad=stated.bad) if header.isreg() else None, at + _blocks(size)

    def _behind_map(self, at: int) -> int:
        """Return where the content of a sparse member of GNU's old kind begins: blocks with a map of it come before."""
        more = self._read(at - BLOCK, BLOCK)[_MORE_SPARSE]
        while more:
            more = self._read(at, BLOCK)[_MORE_SPARSE_NEXT]
            at += BLOCK
        return at

    def _header(self, at: int) -> tarfile.TarInfo | None:
        """Return the header at a place, or None at the block of zeros that ends an archive."""
        block = self._read(at, BLOCK, exactly=False)
        if len(block) < BLOCK:
            raise Damage("it is cut off" if self._within(at) else CUT)
        if not any(block):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except Exception as error:  # tarfile's own kinds, and those of int() and struct
            raise Damage(UNCLEAR if at else f"it is not a .tar archive: {reason(error)}") from error
        if header.size < 0:
            raise Damage(UNCLEAR)
        return header

    def _within(self, at: int) -> bool:
        """Return whether a place is not behind the end."""
        return at == 0 or bool(self._read(at - 1, 1, exactly=False))

    def _read(self, at: int, count: int, exactly: bool = True) -> bytes:
        if self.compressed and at + count > self._end:
            raise Damage(f"it is compressed, and expands to more than {self._end // 2**20:,} MiB")
        try:
            self._opened.seek(at)
            content = self._opened.read(count)
        except Exception as error:  # those of zlib, bz2 and lzma, and OverflowError
            raise Damage(reason(error)) from error
        if exactly and len(content) < count:
            raise Damage(CUT)
        return content

    def _require_zeros(self, at: int) -> None:
        """Check that an archive ends where its block of zeros is: a damaged header may look like one."""
        for place in range(at, at + MOST_ZEROS, io.DEFAULT_BUFFER_SIZE * 64):
            block = self._read(place, io.DEFAULT_BUFFER_SIZE * 64, exactly=False)
            if any(block):
                raise Damage(UNCLEAR)
            if not block:
                return
        raise Damage(f"more than {MOST_ZEROS // 2**20:,} MiB of zeros are behind its end")


class _Stated:
    """What extended headers state about the next member: ``path``, ``linkpath`` and ``size``."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.bad = ""

    def add(self, kind: bytes, content: bytes) -> None:
        """Add an extended header; one that cannot be read makes the member bad."""
        if kind in _LONG:
            self.values[_LONG[kind]] = content.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            return
        at, content = 0, content.rstrip(b"\0")
        while at < len(content):
            length = content[at : at + 10].partition(b" ")[0]
            end = at + int(length) if length.isdigit() else at
            key, equals, value = content[at + len(length) + 1 : max(at, end - 1)].partition(b"=")
            if not equals or content[end - 1 : end] != b"\n":
                self.bad = "has an extended header that cannot be read"
                return
            if key.startswith(b"GNU.sparse."):
                self.bad = SPARSE
            self.values[key.decode("latin-1")] = value.decode("utf-8", "surrogateescape")
            at = end

    def size(self, plain: int) -> int:
        """Return the size of the member's content, by default that of its plain header."""
        stated = self.values.get("size")
        if stated is None:
            return plain
        if not (stated.isascii() and stated.isdigit() and len(stated) < 20):
            self.bad = "has an extended header whose size is not a number"
            return plain
        return int(stated)


def _start(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(8)


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
