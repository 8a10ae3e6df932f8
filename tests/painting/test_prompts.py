"""Caption files in every format that people have, and a line for each way in which one can be wrong."""

import csv
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError, tiny
from singdiffusion.painting.prompts import (
    PAPER_PROMPTS,
    Prompt,
    file_names,
    named,
    plain_text,
    read_prompts,
    slug,
    too_long,
)

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(plain_text)
captions = st.dictionaries(text, text, min_size=1, max_size=8)


@given(captions)
@settings(max_examples=50)
def test_the_same_captions_from_every_format(tmp_path_factory, by_id):
    folder = tmp_path_factory.mktemp("captions")
    expected = [Prompt(name, plain_text(caption)) for name, caption in by_id.items()]
    (folder / "a.json").write_text(json.dumps(by_id))
    rows = [{"id": name, "caption": caption} for name, caption in by_id.items()]
    (folder / "b.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a.json", "b.json", "c.jsonl"):
        assert read_prompts(folder / name) == expected


@pytest.mark.parametrize(
    "invisible", "\ufeff \u200b \u200c \u200d \u200e \u200f \u2060 \u00ad \u202a \u2066 \0 \x1b".split(" ")
)
def test_invisible_characters_at_the_ends(invisible):
    for text in (
        invisible + "a red room",
        "a red room" + invisible,
        f" {invisible} a  red\nroom{invisible}{invisible} ",
    ):
        assert plain_text(text) == "a red room"
    assert plain_text(invisible) == ""


def test_a_text_as_it_is_seen():
    for text, expected in (
        ("a red\u200b room", "a red room"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),  # NFC: one letter
        ("e\u200b\u0301", "\u00e9"),
        ("x\u00b2 \ufb01", "x\u00b2 \ufb01"),  # not NFKC: a square and a ligature stay
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),  # Persian
        (
            "\U0001f469\u200d\U0001f680 \u2764\ufe0f",
            "\U0001f469\u200d\U0001f680 \u2764\ufe0f",
        ),  # an astronaut and a red heart
        ("a\u2028b\x85c\u3000d", "a b c d"),
    ):
        assert plain_text(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_plain_text_stays_as_it_is(raw):
    plain = plain_text(raw)
    assert plain_text(plain) == plain == unicodedata.normalize("NFC", plain)
    assert plain.strip() == plain
    assert "  " not in plain


def test_tables_and_text(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as opened:
        writer = csv.writer(opened)
        writer.writerows([["image_id", "prompt"], ["7", "a cat, asleep"], ["9", 'the "moon"']])
    assert read_prompts(tmp_path / "a.csv") == [Prompt("7", "a cat, asleep"), Prompt("9", 'the "moon"')]
    (tmp_path / "a.txt").write_bytes(b"a cat\r\n\r\n  der Mond \r\n")
    assert read_prompts(tmp_path / "a.txt") == [Prompt("0", "a cat"), Prompt("1", "der Mond")]
    (tmp_path / "a.json").write_text('["one", "two"]')
    assert read_prompts(tmp_path / "a.json") == named(["one", "two"])


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", b"", "holds no prompt"),
        ("a.txt", b"\n \n", "holds no prompt"),
        ("a.txt", b"\xff\xfe", "is not UTF-8"),
        ("a.txt", "a cat".encode("utf-16"), "is not UTF-8"),
        ("a.json", b"", "is empty; it must hold JSON"),
        ("a.json", b"{}", "holds no prompt"),
        ("a.json", b"{", "cannot be read as JSON"),
        ("a.json", b"3", "must hold an object of captions by id, or a list, not a number"),
        ("a.json", b'{"1": "a", "2": "b", "1": "c"}', "the key '1' stands there twice"),
        ("a.json", b'{"1": "a", "2": " "}', "'2' has an empty caption"),
        ("a.json", b'{"1": 5}', "has a caption that is not text but a number"),
        ("a.json", b'{"1": {"caption": "a"}}', "has a caption that is not text but an object"),
        ("a.json", b'[{"id": 1}]', "entry 1 has no caption"),
        ("a.json", b'["a", "\\ud800"]', r"the caption of .*entry 2 is not valid UTF-8: it holds half of a character"),
        ("a.json", b'{"\\udcff": "a"}', "the id of .* is not valid UTF-8"),
        ("a.json", b'[{"id": [1], "caption": "a"}]', "entry 1 has an id that is neither text nor a number but a list"),
        ("a.json", b'[{"id": true, "caption": "a"}]', "neither text nor a number but true or false"),
        ("a.json", b"[" * 100_000, "is nested too deeply"),
        ("a.jsonl", b'{"caption": "a", "id": 3}\n{"caption": "b", "id": "3"}\n', "has the id '3' twice"),
        (
            "a.jsonl",
            b'{"caption": "a", "caption": "b"}',
            "line 1 cannot be read as JSON: the key 'caption' stands there twice",
        ),
        ("a.jsonl", b'"a"\nb\n', "line 2 cannot be read as JSON"),
        ("a.csv", b"", "needs a column caption or prompt or text; it has "),
        ("a.csv", b"id,words\n1,a\n", "needs a column caption or prompt or text; it has id, words"),
        ("a.csv", b"id,caption\n1,a\n1,b\n", "has the id '1' twice"),
        ("a.csv", b"id,caption\n1,\n", "line 2 has an empty caption"),
        ("a.csv", b"caption,caption\na,b\n", "has the column caption twice"),
        ("a.csv", b"id,caption\n1,a cat, asleep\n", "line 2 has more cells than the heading"),
        ("a.csv", b"id,caption\n1," + b"a" * 200_000, "is not CSV after line 1: field larger than field limit"),
    ],
)
def test_one_line_for_a_bad_file(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SingDiffusionError, match=match) as raised:
        read_prompts(tmp_path / name)
    assert name in str(raised.value)
    assert str(raised.value).isprintable()


def test_ids_of_any_kind(tmp_path):
    rows = [{"id": id, "text": "a"} for id in (7, 1.5, "../x", "x" * 300, "\x1b[31m\u202e", "")]
    (tmp_path / "a.json").write_text(json.dumps([*rows, {"text": "b"}]))
    ids = [prompt.id for prompt in read_prompts(tmp_path / "a.json")]
    assert ids == ["7", "1.5", "../x", "x" * 300, "\x1b[31m\u202e", "", "6"]
    assert [slug(id) for id in ids] == ["7", "1-5", "x", "x" * 40, "31m", "picture", "6"]


def test_no_file(tmp_path):
    for path in ("none.txt", "none.json", ".", "zero\0"):
        with pytest.raises(SingDiffusionError, match="cannot be read"):
            read_prompts(tmp_path / path)
    with pytest.raises(SingDiffusionError, match="it has more than 64 MiB"):
        read_prompts(Path("/dev/zero"))


def test_long_captions_are_counted():
    """The embedded model reads 24 tokens, including start and end."""
    tokenizer = tiny.load_pipeline().tokenizer
    fits, long = Prompt("fits", " ".join(["red"] * 22)), Prompt("long", " ".join(["red"] * 23))
    assert too_long([*named(PAPER_PROMPTS), fits, long], tokenizer) == [long]


@given(st.text(max_size=80))
def test_a_slug_names_a_file(name):
    made = slug(name)
    assert 0 < len(made) <= 40
    assert not set(made) & set("/\\. \x00:")
    assert len(made.encode()) <= 120


def test_names_are_alike_for_no_two_texts():
    texts = [f"a{'!' * i}" for i in range(30)] + ["a 27", "a-b"]
    names = file_names(texts)
    assert list(names) == texts
    assert len(set(names.values())) == len(texts)
    assert [names["a"], names["a!"], names["a" + "!" * 29]] == ["a", "a-b", "a-30"]
    assert len(file_names(["\U00020bb7" * 100])["\U00020bb7" * 100].encode()) <= 180
