"""Archives header by header: what tarfile reads is read alike, and no header costs more than the member that it describes."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion.data import archives, sources
from singdiffusion.data.archives import Archive, Damage

from . import corpus

PNG = corpus.encoded(corpus.picture(0))
BAD_NUMBERS = (b"x", b"", b"-1", b"1e999", b"\xd9\xa1", b"9" * 30)
JSONS = {
    b"5": "its .json must hold an object, not a number",
    b"null": "its .json must hold an object, not null",
    b"true": "its .json must hold an object, not true or false",
    b'"x"': "its .json must hold an object, not text",
    b"[1]": "its .json must hold an object, not a list",
    b"[" * 100_000: "its .json is nested too deeply; at most 50 levels are read",
    b'{"text": "a", "text": "b"}': "its .json cannot be read as JSON: the key 'text' stands there twice",
    b'{"text": NaN}': "its .json cannot be read as JSON: it holds NaN",
    b'{"text": "half \\ud83d"}': "its caption has half a character (a lone surrogate of UTF-16)",
    b'{"text": {"a": 1}}': "its caption is not text but an object",
    b"\xff": "its .json is not UTF-8",
    b"": "its .json is empty; it must hold JSON",
}


def blocks(content):
    return content + b"\0" * (-len(content) % 512)


def header(name, size, kind=b"0", link=b""):
    """A header of 512 bytes; ``size`` is a number, or the 12 bytes of its field."""
    made = bytearray(512)
    made[: len(name)], made[100:107], made[156:157] = name, b"0000644", kind
    made[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    made[157 : 157 + len(link)], made[257:265] = link, b"ustar\x0000"
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def member(name, content):
    return header(name, len(content)) + blocks(content)


def pax(content, size=None):
    return header(b"pax", len(content) if size is None else size, b"x") + blocks(content)


def record(key, value):
    length = len(key) + len(value) + 3
    length += len(str(length))
    return b"%d %s=%s\n" % (length + (len(str(length)) > len(str(length - 1))), key, value)


def pair(name):
    return member(name + b".png", PNG) + member(name + b".txt", b"a red room")


def read(folder, content, end=b"\0" * 1024):
    """(keys of the pictures, key -> reason) of an archive."""
    (folder / "a.tar").write_bytes(content + end)
    return lines(folder)


def lines(folder):
    found = list(sources.open_source(str(folder / "a.tar")).items("a"))
    reasons = {line.key: line.reason for line in found if isinstance(line, sources.Skipped)}
    return [line.key for line in found if isinstance(line, sources.Item)], reasons


def test_what_a_json_may_hold(tmp_path):
    content = b"".join(member(b"%d.png" % i, PNG) + member(b"%d.json" % i, each) for i, each in enumerate(JSONS))
    kept, reasons = read(tmp_path, pair(b"first") + content + pair(b"last"))
    assert kept == ["first", "last"]
    assert reasons == {str(i): reason for i, reason in enumerate(JSONS.values())}


def test_a_bad_header_costs_its_member_only(tmp_path):
    bad = {
        **{record(b"size", number): "whose size is not a number" for number in BAD_NUMBERS},
        **dict.fromkeys((b"x y=z\n", b"0 a=b\n", b"5 ab\n", b"99999999 a=b\n", b"\xff" * 40), "that cannot be read"),
        record(b"GNU.sparse.map", b"1,x,\xff"): "sparse",
        record(b"GNU.sparse.major", b"9" * 30): "sparse",
    }
    for content, reason in bad.items():
        kept, reasons = read(tmp_path, pair(b"a") + pax(content) + pair(b"b") + pair(b"c"))
        assert kept == ["a", "c"]
        assert reason in reasons.pop("b.png")
        assert reasons == {"b": "has no picture: it has .txt"}
    large = pax(b"x" * (archives.MOST_HEADER + 1))
    assert "more than 1,048,576 bytes" in read(tmp_path, pair(b"a") + large + pair(b"b"))[1]["b.png"]
    sparse = header(b"b.png", 512, b"S") + blocks(b"x")
    assert read(tmp_path, pair(b"a") + sparse + pair(b"c")) == (["a", "c"], {"b.png": archives.SPARSE})
    chain = pax(record(b"path", b"z.png")) * 5000
    assert read(tmp_path, chain + pair(b"b"))[1] == {"b": "has no picture: it has .txt", "z": "has no caption"}


def test_sizes_are_checked_before_anything_is_read(tmp_path):
    """Terabytes that a header claims, and links in a circle."""
    for size in (b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0"):
        start = time.monotonic()
        for name in (b"b.png", b"b.txt", b"b.json"):
            kept, reasons = read(tmp_path, pair(b"a") + header(name, size))
            assert kept == ["a"]
            assert any("the shard is damaged" in reason for reason in reasons.values())
        for kind in (b"x", b"L", b"g"):
            assert read(tmp_path, pair(b"a") + header(b"b.png", size, kind))[0] == ["a"]
        assert time.monotonic() - start < 2
    circle = header(b"b.png", 0, b"2", b"c.png") + header(b"c.png", 0, b"2", b"b.png") + member(b"b.txt", b"b")
    assert read(tmp_path, circle)[1]["b"] == "is a link to a member that is not there"


@pytest.mark.skipif(os.name == "nt", reason="files without holes")
def test_a_member_of_a_terabyte_is_not_read(tmp_path):
    with open(tmp_path / "a.tar", "wb") as opened:  # of holes, which take no place on the disk
        size = b"\x80" + (2**40).to_bytes(11, "big")
        opened.write(pair(b"a") + member(b"b.txt", b"b") + header(b"b.png", size))
        opened.truncate(opened.tell() + 2**40)
        opened.seek(0, os.SEEK_END)
        opened.write(pair(b"c") + b"\0" * 1024)
    kept, reasons = lines(tmp_path)
    assert kept == ["a", "c"]
    assert reasons == {"b": "is too large a file: 1,099,511,627,776 bytes; at most 1,073,741,824 are read"}


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_archive_that_expands_without_end(tmp_path, monkeypatch, squeeze):
    monkeypatch.setattr(archives, "LEAST_EXPANSION", 2**20)
    content = squeeze(pair(b"a") + member(b"b.bin", b"\0" * 2**22) + pair(b"c"))
    kept, reasons = read(tmp_path, content, end=b"")
    assert kept == ["a"]
    assert list(reasons.values())[-1] == "the shard is damaged: it is compressed, and expands to more than 1 MiB"


def test_an_archive_of_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 4)
    assert read(tmp_path, pair(b"a") + pair(b"b"))[0] == ["a", "b"]
    kept, reasons = read(tmp_path, pair(b"a") + pair(b"b") + pair(b"c"))
    assert kept == ["a", "b"]
    assert reasons == {"a.tar after b": "the shard is damaged: it has more than 4 members"}


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=150)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=1200), st.booleans()), max_size=6, unique_by=lambda row: row[0]),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.sampled_from([bytes, gzip.compress]),
)
def test_well_formed_archives_are_read_as_tarfile_reads_them(tmp_path_factory, rows, kind, squeeze):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as made:
        for name, content, linked in rows:
            info = tarfile.TarInfo(f"{name}.bin")
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
            if linked:
                link = tarfile.TarInfo(f"{name}.link")
                link.type, link.linkname = tarfile.LNKTYPE, f"{name}.bin"
                made.addfile(link)
    file = tmp_path_factory.mktemp("tar") / "a.tar"
    file.write_bytes(squeeze(buffer.getvalue()))
    with tarfile.open(file) as archive:
        expected = [(each.name, archive.extractfile(each).read()) for each in archive]
    with Archive(file) as archive:
        assert [(each.name, archive.read(each, 10**6)) for each in archive.members()] == expected


PIECES = st.one_of(
    st.binary(min_size=512, max_size=512),
    st.builds(pax, st.binary(max_size=60)),
    st.builds(lambda key, value: pax(record(key, value)), st.sampled_from([b"path", b"size", b"linkpath", b"GNU.sparse.map"]), st.binary(max_size=20)),
    st.builds(member, st.sampled_from([b"a.png", b"a.txt", b"a.json", b"\xff.png", b""]), st.sampled_from([PNG, b"x", *JSONS])),
    st.builds(
        header,
        st.sampled_from([b"a.png", b"a.txt", b"b.png"]),
        st.one_of(st.binary(min_size=12, max_size=12), st.integers(0, 2000)),
        st.binary(min_size=1, max_size=1),
        st.sampled_from([b"a.png", b"", b"../a.png", b"\xff"]),
    ),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(PIECES, max_size=6), st.booleans(), st.integers(0, 2000))
def test_no_header_is_fatal(tmp_path_factory, pieces, compressed, cut):
    content = pair(b"first") + b"".join(pieces) + b"\0" * 1024
    content = content[: len(content) - cut]
    kept, _ = read(tmp_path_factory.getbasetemp(), gzip.compress(content) if compressed else content, end=b"")
    assert "first" in kept or cut or any(b"first" in piece for piece in pieces)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_text("a red room")
    for name in ("b.png", "b.txt", "metadata.jsonl", "c.tar"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "d.txt").mkdir()
    first, *others = sources.open_source(str(tmp_path)).items("00000")
    assert first.captions == ("a red room",)
    assert {line.key: line.reason for line in others} == dict.fromkeys(
        ("b.png", "b.txt", "c.tar", "metadata.jsonl"), "is not a file"
    )


def test_an_archive_that_is_none(tmp_path):
    for content in (b"no archive" * 100, b"\x1f\x8b no gzip", b"BZh", b"\xfd7zXZ\0 no xz"):
        (tmp_path / "a.tar").write_bytes(content)
        (line,) = sources.open_source(str(tmp_path / "a.tar")).items("a")
        assert line.reason.startswith("the shard is damaged: ")
    with pytest.raises(Damage):
        Archive(tmp_path / "none.tar")
