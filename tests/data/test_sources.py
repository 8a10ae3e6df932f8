"""What lies in a folder or an archive is used as it is meant, or named with the reason: never lost, and never used twice."""

import gzip
import io
import json
import os
import re
import tarfile
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from singdiffusion import SingDiffusionError
from singdiffusion.data import sources
from singdiffusion.data.captions import MOST_CAPTIONS, caption_of
from singdiffusion.data.formats import OTHERS, UNREADABLE, jpeg_suffixes, picture_suffixes, why_not

from . import corpus

Item, Skipped = sources.Item, sources.Skipped


def put(file, caption=None):
    """Write a picture, and a caption into the .txt beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(file, "PNG")
    if caption is not None:
        file.with_suffix(".txt").write_text(caption)
    return file


def everything(folder, **options):
    """(key -> captions, key -> reason, key -> notes) of a source."""
    source = sources.open_source(str(folder), **options)
    lines = [line for unit in source.units() for line in source.items(unit)]
    kept = [line for line in lines if isinstance(line, Item)]
    assert len({line.key for line in lines}) == len(lines), "each key once"
    reasons = {line.key: line.reason for line in lines if isinstance(line, Skipped)}
    return {line.key: line.captions for line in kept}, reasons, {line.key: line.notes for line in kept if line.notes}


# -- formats -------------------------------------------------------------------------------------------------------------


def test_every_suffix_of_pillow_is_used_or_named():
    known = Image.registered_extensions()
    for suffix, name in known.items():
        if name in Image.OPEN or name == "MPO":
            assert (suffix in picture_suffixes()) != (why_not(suffix) is not None), suffix
    assert {".jpe", ".jfif", ".jpg", ".jpeg", ".mpo", ".pjpeg"} <= jpeg_suffixes() <= picture_suffixes()
    assert {".jp2", ".tga", ".ppm", ".dib", ".ico", ".gif", ".apng", ".tif", ".webp"} <= picture_suffixes()
    assert {known.get(suffix) for suffix in picture_suffixes()}.isdisjoint(OTHERS)
    for suffix in UNREADABLE:
        assert (suffix in picture_suffixes()) != (why_not(suffix) is not None), suffix
    for suffix in (".txt", ".docx", "", ".tar"):
        assert suffix not in picture_suffixes()
        assert why_not(suffix) is None


def test_formats_of_a_folder(tmp_path):
    content = {
        "JPEG": ".jfif .jpe .JPG .pjpeg",
        "JPEG2000": ".jp2",
        "TGA": ".tga",
        "PPM": ".ppm",
        "ICO": ".ico",
        "MPO": ".mpo",
    }
    names = []
    for kind, suffixes in content.items():
        for suffix in suffixes.split():
            names.append(f"{kind}{suffix}")
            corpus.picture(1).save(tmp_path / names[-1], kind)
            (tmp_path / names[-1]).with_suffix(".txt").write_text("red")
    for name in ("a.psd", "b.eps", "c.heic", "d.pdf", "e.svg", "f.docx", "g.docx", "h"):
        (tmp_path / name).write_bytes(b"x")
    kept, reasons, _ = everything(tmp_path)
    assert sorted(kept) == sorted(names)
    assert reasons == {
        "a.psd": "is not one picture but a document of layers (.psd): export it as .png or .jpg",
        "b.eps": "is not one picture but a PostScript drawing (.eps): export it as .png or .jpg",
        "c.heic": "is of a format that Pillow cannot open here (.heic): convert it to .png or .jpg",
        "d.pdf": "is of a format that Pillow cannot open here (.pdf): convert it to .png or .jpg",
        "e.svg": "is of a format that Pillow cannot open here (.svg): convert it to .png or .jpg",
        "*.docx": "is neither a picture nor a caption: 2 files",
        "*": "is neither a picture nor a caption: 1 file",
    }


# -- folders -------------------------------------------------------------------------------------------------------------


def test_links_are_followed_once_and_loops_end(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    put(root / "a" / "0.png", "zero")
    put(outside / "deep" / "1.png", "one")
    (root / "linked").symlink_to(outside)
    (root / "aa").symlink_to(root / "a")  # before z in order, and the real folder's name is kept
    (root / "a" / "up").symlink_to(root)
    (outside / "deep" / "round").symlink_to(outside)
    (outside / "self").symlink_to(outside / "self")
    (root / "lost.png").symlink_to(tmp_path / "nothing")
    (root / "same.png").symlink_to(root / "a" / "0.png")
    (root / "same.txt").write_text("zero again")
    kept, reasons, _ = everything(root)
    assert kept == {"a/0.png": ("zero",), "linked/deep/1.png": ("one",), "same.png": ("zero again",)}
    other = "is another name of a folder that is read"
    assert reasons == {
        "a/up/": other, "aa/": other, "linked/deep/round/": other, "lost.png": "is a link to nothing",
        "linked/self": "is a link to nothing",
    }  # fmt: skip


def test_hidden_folders_and_copies_are_not_used_and_named(tmp_path):
    put(tmp_path / "a.png", "a red room")
    for folder in (".ipynb_checkpoints", ".hidden", "__MACOSX", "sub/@eaDir"):
        put(tmp_path / folder / "a-checkpoint.png", "a red room")
    put(tmp_path / "._a.png", "fork")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    kept, reasons, _ = everything(tmp_path)
    assert kept == {"a.png": ("a red room",)}
    folders = [".hidden/", ".ipynb_checkpoints/", "__MACOSX/", "sub/@eaDir/"]
    assert reasons == dict.fromkeys(folders, "is a hidden folder or one of copies") | {"._a.png": "is a hidden file"}


def test_the_folder_itself_may_be_hidden(tmp_path):
    put(tmp_path / ".cache" / "a.png", "a red room")
    assert everything(tmp_path / ".cache")[0] == {"a.png": ("a red room",)}


def test_loose_pictures_beside_archives(tmp_path):
    archive(tmp_path / "00000.tar", {"0.png": None, "0.txt": "zero"})
    put(tmp_path / "a.png", "a")
    put(tmp_path / "sub" / "b.png", "b")
    archive(tmp_path / "sub" / "far.tar", {"1.png": None, "1.txt": "one"})
    (tmp_path / "00000_stats.json").write_text("{}")
    source = sources.open_source(str(tmp_path), unit_size=1)
    assert source.units() == ["00000", "loose-00000", "loose-00001"]
    assert len({source.digest(unit) for unit in source.units()}) == 3
    kept, reasons, _ = everything(tmp_path)
    assert kept == {"0": ("zero",), "a.png": ("a",), "sub/b.png": ("b",)}
    assert reasons == {
        "sub/far.tar": "is a .tar shard in a subfolder: encode that folder by itself",
        "*.json": "is neither a picture nor a caption: 1 file",
    }
    (tmp_path / "loose-00000.tar").write_bytes((tmp_path / "00000.tar").read_bytes())
    with pytest.raises(SingDiffusionError, match="rename the shard loose-00000.tar"):
        sources.open_source(str(tmp_path))


def test_a_folder_without_usable_pictures_names_what_it_holds(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    put(tmp_path / ".hidden" / "b.png", "b")
    with pytest.raises(SingDiffusionError) as raised:
        sources.open_source(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path} holds no pictures (.jpg, .png, .webp, .tif and others that Pillow opens) and no .tar shards; .hidden/ is a "
        "hidden folder or one of copies; a.heic is of a format that Pillow cannot open here (.heic): convert it to .png or .jpg"
    )
    archive(tmp_path / "0.tar", {"0.png": None, "0.txt": "zero"})
    kept, reasons, _ = everything(tmp_path)
    assert list(kept) == ["0"]
    assert sorted(reasons) == [".hidden/", "a.heic"], "they are also named beside archives"


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), max_size=6))
def test_any_links_between_folders(tmp_path_factory, links):
    """Each picture of the root comes exactly once, whatever links there are."""
    root = tmp_path_factory.mktemp("root")
    for name in "abc":
        put(root / name / f"{name}.png", name)
    for i, (at, to) in enumerate(links):
        (root / at / f"link{i}").symlink_to(root / to)
    kept, reasons, _ = everything(root)
    assert kept == {f"{name}/{name}.png": (name,) for name in "abc"}
    assert len(reasons) == len(links)


# -- captions in a folder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.png.txt", "a.caption", "a.png.caption", "a.text", "a.json"])
def test_caption_files_of_every_name(tmp_path, name):
    put(tmp_path / "a.png")
    text = json.dumps({"caption": "a red room"}) if name.endswith(".json") else "a red room"
    (tmp_path / name).write_text(text)
    assert everything(tmp_path) == ({"a.png": ("a red room",)}, {}, {})


def test_of_several_caption_files_one_is_used_and_the_others_are_named(tmp_path):
    put(tmp_path / "a.png", "a red room")
    (tmp_path / "a.caption").write_text("another room")
    put(tmp_path / "b.png", " ")
    (tmp_path / "b.png.txt").write_text("b")
    put(tmp_path / "c.png", "c")
    (tmp_path / "c.caption").write_text("c")
    kept, reasons, notes = everything(tmp_path)
    assert kept == {"a.png": ("a red room",), "b.png": ("b",), "c.png": ("c",)}
    assert reasons == {}
    assert notes == {
        "a.png": ("one of several places of captions used: a.txt, not a.caption",),
        "b.png": ("a caption not used: b.txt, its caption is empty",),
    }


def test_a_picture_without_a_caption_names_what_lies_beside_it(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "a.tags").write_text("red, room")
    put(tmp_path / "b.png")
    put(tmp_path / "c.png")
    (tmp_path / "c.json").write_text('{"width": 3}')
    put(tmp_path / "d.png")
    (tmp_path / "d.json").write_text("{")
    put(tmp_path / "sub" / "e.png")
    (tmp_path / "orphan.txt").write_text("nobody's")
    suffixes = "captions are in .txt, .text, .caption, .captions, .json"
    expected = {
        "a.png": f"has no caption: beside it lies a.tags; {suffixes}",
        "b.png": "has no caption",
        "c.png": f"has no caption: beside it lies c.json; {suffixes}",
        "d.png": "its .json cannot be read as JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "sub/e.png": "has no caption",
        "orphan.txt": "has no picture",
        "*.tags": "is neither a picture nor a caption: 1 file",
    }
    assert everything(tmp_path)[1] == expected
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "e.png", "text": "elsewhere"}\n{"file_name": "b.png", "caption": null}\n'
    )
    assert everything(tmp_path)[1] == expected | {
        "b.png": "has no caption: its row in the metadata holds none (text, caption, prompt, texts, captions, prompts)",
        "sub/e.png": "has no caption: metadata.jsonl does not name it",
        "e.png": "is named in the metadata but does not exist",
    }


def test_metadata_of_subfolders_and_names_as_other_systems_write_them(tmp_path):
    for name in (
        "0.png",
        "sub/1.png",
        "sub/deep/2.png",
        "3.png",
        "4.png",
        "sub/5.png",
        unicodedata.normalize("NFD", "\u00e9.png"),
    ):
        put(tmp_path / name)
    rows = [
        {"file_name": "./0.png", "text": "zero"},
        {"file_name": "sub\\1.png", "text": "one"},
        {"file_name": "sub/../3.png", "text": None, "caption": "three"},
        {"file_name": str(tmp_path / "4.png"), "text": " ", "prompt": "four"},
        {"file_name": unicodedata.normalize("NFC", "\u00e9.png"), "text": "an accent"},
        {"file_name": "SUB/1.PNG", "text": "other letters"},
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sub" / "metadata.jsonl").write_text('{"file_name": "deep/2.png", "text": "two"}\n')
    (tmp_path / "sub" / "METADATA.csv").write_text("file_name,text\n5.png,five\n")
    (tmp_path / "metadata.parquet").write_bytes(b"x")
    kept, reasons, notes = everything(tmp_path)
    assert kept == {
        "0.png": ("zero",), "sub/1.png": ("one",), "sub/deep/2.png": ("two",), "3.png": ("three",), "4.png": ("four",),
        "sub/5.png": ("five",), unicodedata.normalize("NFD", "\u00e9.png"): ("an accent",),
    }  # fmt: skip
    assert reasons == {
        "SUB/1.PNG": "is named in the metadata but does not exist: there is sub/1.png",
        "metadata.parquet": "is not read: write its rows into metadata.jsonl or metadata.csv",
    }
    assert notes == {}


def test_every_row_and_every_entry_of_a_list_is_a_caption(tmp_path):
    put(tmp_path / "a.png", "in a file")
    put(tmp_path / "b.png")
    put(tmp_path / "c.png", "the file of c")
    rows = [{"file_name": "a.png", "text": f"row {i}"} for i in range(5)] + [{"file_name": "a.png", "text": "row 1"}]
    rows += [{"file_name": "b.png", "captions": ["one", " ", "two", 3, "one"]}, {"file_name": "c.png", "text": ""}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, reasons, notes = everything(tmp_path)
    assert kept == {
        "a.png": ("row 0", "row 1", "row 2", "row 3", "row 4"), "b.png": ("one", "two"), "c.png": ("the file of c",),
    }  # fmt: skip
    assert reasons == {}
    assert notes == {
        "a.png": ("one of several places of captions used: the metadata, not a.txt",),
        "b.png": (
            "a caption left out: its caption is empty",
            "a caption left out: its caption is not text but a number",
        ),
        "c.png": ("a caption not used: the metadata, its caption is empty",),
    }


def test_captions_of_odd_text(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("\ufeffa red\u200b room\n".encode())
    put(tmp_path / "b.png")
    (tmp_path / "b.txt").write_bytes("\ufeff\u200d".encode())
    put(tmp_path / "c.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "c.png", "text": "half \\ud83d"}\n')
    put(tmp_path / "d.png", "\u00e9" * 9_000)  # 18,000 bytes, but not too many characters
    put(tmp_path / "e.png", "\u00e9" * 30_000)
    kept, reasons, notes = everything(tmp_path)
    assert kept == {"a.png": ("a red room",), "d.png": ("\u00e9" * 9_000,), "e.png": ("\u00e9" * 10_000,)}
    assert reasons == {
        "b.png": "its caption is empty", "c.png": "its caption has half a character (a lone surrogate of UTF-16)",
    }  # fmt: skip
    assert notes == {"e.png": ("caption cut",)}


def test_what_changes_a_unit(tmp_path):
    put(tmp_path / "a.png", "a")
    digests = set()
    digest = lambda: digests.add(sources.open_source(str(tmp_path)).digest("00000")) or len(digests)  # noqa: E731
    assert digest() == 1
    assert digest() == 1
    (tmp_path / "a.png.caption").write_text("b")
    assert digest() == 2
    (tmp_path / "x.heic").write_bytes(b"x")
    assert digest() == 3
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "c"}\n')
    assert digest() == 4
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "c"}\n{"file_name": "a.png", "text": "d"}\n'
    )
    assert digest() == 5


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_not_text(tmp_path):
    file = os.fsencode(tmp_path) + b"/\xff.png"
    with open(file, "wb") as opened:
        opened.write(corpus.encoded(corpus.picture(0)))
    assert list(everything(tmp_path)[1]) == ["\udcff.png"]


def test_bad_rows_of_metadata_cost_themselves(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        put(tmp_path / name)
    (tmp_path / "metadata.jsonl").write_bytes(
        b'{"file_name": "a.png", "text": "one"}\nno json\n5\n[]\nnull\n{"text": "x"}\n{"file_name": 5}\n'
        b'{"file_name": "a.png", "file_name": "b.png"}\n\xff\n' + b"[" * 100_000 + b"\n"
        b'{"file_name": "a\\u0000b", "text": "x"}\n{"file_name": "' + b"n" * 5000 + b'", "text": "x"}\n'
        b'{"file_name": "\\ud800", "text": "x"}\n{"file_name": "b.png", "text": "two"}\n'
    )  # fmt: skip
    (tmp_path / "metadata.csv").write_bytes(
        b"file_name,text\n" + b"x" * 200_000 + b",a\n\xff,b\n,c\nc.png,three,four\nzero\0byte,d\n"
    )
    kept, reasons, _ = everything(tmp_path)
    assert kept == {"a.png": ("one",), "b.png": ("two",), "c.png": ("three",)}
    lines = {key.partition(", ")[2]: reason for key, reason in reasons.items() if key.startswith("metadata.jsonl")}
    assert lines.pop("line 2").startswith("its row cannot be read as JSON: ")
    assert lines == {
        "line 3": "its row must hold an object, not a number",
        "line 4": "its row must hold an object, not a list",
        "line 5": "its row must hold an object, not null",
        "line 6": "its row has no file_name",
        "line 7": "its row has no file_name",
        "line 8": "its row cannot be read as JSON: the key 'file_name' stands there twice",
        "line 9": "its row is not UTF-8",
        "line 10": "its row is nested too deeply; at most 50 levels are read",
    }
    assert reasons["metadata.csv, line 2"] == "its row is not CSV: field larger than field limit (131072)"
    assert reasons["metadata.csv, line 3"] == "its row is not UTF-8"
    assert reasons["metadata.csv, line 4"] == "its row has no file_name"
    absent = {key for key, reason in reasons.items() if reason == "is named in the metadata but does not exist"}
    assert {"a\0b", "n" * 5000, "\ud800"} <= absent
    (tmp_path / "metadata.csv").write_text("name,text\na.png,one\n")
    with pytest.raises(SingDiffusionError, match=r"metadata.csv has no column file_name"):
        sources.open_source(str(tmp_path))


@pytest.mark.skipif(os.name == "nt", reason="files without holes")
def test_metadata_of_terabytes_is_refused(tmp_path):
    put(tmp_path / "a.png", "a")
    with open(tmp_path / "metadata.jsonl", "wb") as opened:  # of holes, which take no place on the disk
        opened.truncate(2**42)
    with pytest.raises(SingDiffusionError, match=r"reading .*metadata.jsonl needs about 2.46e\+04 GiB of memory"):
        sources.open_source(str(tmp_path))


def test_a_picture_has_a_limited_number_of_captions():
    found = caption_of([f"caption {i}" for i in range(MOST_CAPTIONS + 5)])
    assert len(found.texts) == MOST_CAPTIONS
    assert found.notes == ("captions left out: 1,005, of which 1,000 are used",)


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("shards-{0..99999999}.tar", "stands for 100,000,000 names; at most 1,000,000 are read"),
        ("a{0..999}{0..9999}.tar", "stands for 10,000,000 names"),
        ("a{" + "{0,1}" * 40 + ",b}.tar", "stands for 1,099,511,627,777 names"),
        ("a{0..99..2}.tar", "does not exist (50 of 50 are missing)"),
        ("a{{0..9},{10..99}}.tar", "does not exist (100 of 100 are missing)"),
        ("a{1{2,3}", "is not a pattern of names: Unbalanced braces"),
        ("a{" * 3000 + "}" * 3000, "is not a pattern of names: braces are nested more than 50 deep"),
        ("", "the source must be the name of a folder"),
        ("a\0b", "the source must be the name of a folder"),
    ],
    ids=lambda text: text[:20],
)
def test_patterns_are_counted_before_they_are_expanded(tmp_path, monkeypatch, pattern, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SingDiffusionError, match=re.escape(match)):
        sources.open_source(pattern)


@settings(deadline=None)
@given(st.recursive(st.sampled_from(["a", "{1..3}", "{5..-5..2}", "{x}", ""]), lambda inner: st.builds(
    lambda parts, braces: "{" + ",".join(parts) + "}" if braces else "".join(parts), st.lists(inner, max_size=3), st.booleans()
), max_leaves=6))  # fmt: skip
def test_the_count_is_that_of_the_names(pattern):
    from braceexpand import braceexpand

    assert sources._count(pattern) == len(list(braceexpand(pattern)))


def test_rows_of_a_data_set_of_wrong_types(tmp_path):
    from datasets import Dataset

    good = {"bytes": corpus.encoded(corpus.picture(0)), "path": None}
    absent = {"bytes": None, "path": str(tmp_path / "none.png")}
    rows = {"image": [good, None, absent, {"bytes": b"", "path": None}], "text": ["a", "b", "c", "d"]}
    Dataset.from_dict(rows).save_to_disk(str(tmp_path / "in"))
    kept, reasons, _ = everything(tmp_path / "in")
    assert kept == {"row 0": ("a",)}
    assert reasons == {
        "row 1": "has no picture",
        "row 2": f"names a picture that is not there: {tmp_path / 'none.png'}",
        "row 3": "has no picture",
    }
    Dataset.from_dict({"image": [1, 2], "text": [3, 4]}).save_to_disk(str(tmp_path / "numbers"))
    with pytest.raises(SingDiffusionError, match="the column image of the data set .* holds no pictures"):
        sources.open_source(str(tmp_path / "numbers"))
    (tmp_path / "in" / "dataset_info.json").write_text("5")
    with pytest.raises(SingDiffusionError, match="the data set .* cannot be read"):
        sources.open_source(str(tmp_path / "in"))


# -- archives --------------------------------------------------------------------------------------------------------------


def archive(file, content, *, links=(), compressed=False):
    """Write a .tar: (name, text or bytes; None: a picture) in order, then links (name, target)."""
    buffer = io.BytesIO()
    pairs = content.items() if isinstance(content, dict) else content
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for number, (name, data) in enumerate(pairs):
            data = corpus.encoded(Image.new("RGB", (16, 16), (number, 0, 0))) if data is None else data
            data = data.encode() if isinstance(data, str) else data
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            made.addfile(member)
    file.write_bytes(gzip.compress(buffer.getvalue()) if compressed else buffer.getvalue())
    return file


def number_of(item):
    """The number of the member that a picture was written as."""
    return np.asarray(Image.open(item.picture))[0, 0, 0]


@pytest.mark.parametrize("compressed", [False, True])
def test_the_same_names_twice_are_two_pictures(tmp_path, compressed):
    file = archive(
        tmp_path / "a.tar",
        [("0.png", None), ("0.txt", "first"), ("1.png", None), ("1.txt", "one"), ("0.png", None), ("0.txt", "second")],
        compressed=compressed,
    )
    found = list(sources.open_source(str(file)).items("a"))
    assert [(item.key, item.captions, number_of(item), item.notes) for item in found] == [
        ("0", ("first",), 0, ()),
        ("1", ("one",), 2, ()),
        ("0 (2)", ("second",), 4, ("its name occurs again",)),
    ]


def test_names_that_cannot_be_paired(tmp_path):
    file = archive(
        tmp_path / "a.tar",
        [("0.png", None), ("0.png", None), ("0.txt", "a"), ("0.txt", "b"), ("1.png", None), ("1.txt", "c")],
    )
    kept, reasons, _ = everything(file)
    assert kept == {"1": ("c",)}
    assert reasons == {"0": "has members of the same name that cannot be paired: 2 of them occur again"}


def test_variants_are_pictures_of_their_own(tmp_path):
    names = {
        "img.v0.png": None, "img.v1.png": None, "img.v0.txt": "zero", "img.v1.txt": "one",
        "dated.2020.01.png": None, "dated.2020.02.png": None, "dated.txt": "both",
        "one.png": None, "one.seg.png": None, "one.txt": "plain",
        "two.jpg": None, "two.png": None, "two.txt": "both formats",
        "named.png": None, "named.png.txt": "by its whole name",
    }  # fmt: skip
    kept, reasons, notes = everything(archive(tmp_path / "a.tar", names))
    assert kept == {
        "img.v0.png": ("zero",), "img.v1.png": ("one",), "dated.2020.01.png": ("both",), "dated.2020.02.png": ("both",),
        "one.png": ("plain",), "two.jpg": ("both formats",), "two.png": ("both formats",), "named": ("by its whole name",),
    }  # fmt: skip
    assert reasons == {"one.seg.png": "has no caption: it is a variant of a picture without .seg"}
    assert notes == {}


@settings(deadline=None, max_examples=40)
@given(st.data(), st.booleans())
def test_members_in_any_order(tmp_path_factory, data, compressed):
    """A member finds its partner wherever it stands; the pictures come in their own order."""
    count = data.draw(st.integers(1, 6))
    names = [f"k{i}.{end}" for i in range(count) for end in ("png", "txt")]
    order = data.draw(st.permutations(names))
    content = [(name, None if name.endswith("png") else f"caption {name[1]}") for name in order]
    file = archive(tmp_path_factory.mktemp("tar") / "a.tar", content, compressed=compressed)
    found = list(sources.open_source(str(file)).items("a"))
    wanted = [name for name in order if name.endswith("png")]
    assert [(item.key, item.captions, number_of(item)) for item in found] == [
        (name[:2], (f"caption {name[1]}",), order.index(name)) for name in wanted
    ]


def test_what_else_an_archive_holds_is_named(tmp_path):
    content = {
        "a.png": None, "a.cls": "7", "b.txt": "alone", "c.heic": b"x", "c.txt": "c", "d.png": None, "d.json": "[1]",
        "e.png": None, "e.json": "{", "f.jfif": None, "f.json": '{"text": null, "caption": ["x", "y"]}',
        "./._f.jfif": b"x", ".ipynb_checkpoints/f.png": None, "metadata.jsonl": "{}",
    }  # fmt: skip
    links = [("g.png", "a.png"), ("h.png", "nothing.png")]
    file = archive(tmp_path / "a.tar", content | {"g.txt": "g", "h.txt": "h"}, links=links)
    kept, reasons, _ = everything(file)
    assert kept == {"f": ("x", "y"), "g": ("g",)}
    assert reasons == {
        "a": "has no caption: beside it are .cls",
        "b": "has no picture: it has .txt",
        "c": "has no picture: .heic is of a format that Pillow cannot open here (.heic): convert it to .png or .jpg",
        "d": "its .json must hold an object, not a list",
        "e": "its .json cannot be read as JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "h": "is a link to a member that is not there",
        "metadata": "has no picture: it has .jsonl",
        "./._f.jfif": "is a hidden file",
        ".ipynb_checkpoints/f.png": "is a hidden file",
    }


# -- Hugging Face ----------------------------------------------------------------------------------------------------------


def test_lists_and_several_columns_of_a_data_set(tmp_path):
    from datasets import Dataset
    from datasets import Image as Column

    stored = [{"bytes": corpus.encoded(corpus.picture(i)), "path": None} for i in range(3)]
    made = Dataset.from_dict(
        {"image": stored, "caption": [["a", "b", "a"], [], ["c"]], "prompt": ["x", "y", None]}
    ).cast_column("image", Column())
    made.save_to_disk(str(tmp_path / "in"))
    kept, reasons, _ = everything(tmp_path / "in")
    assert kept == {"row 0": ("a", "b"), "row 1": ("y",), "row 2": ("c",)}
    assert reasons == {}
