"""What the report says is what was measured, and its page needs nothing from elsewhere."""

import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from singdiffusion import SingDiffusionError, files
from singdiffusion.evaluate import report
from singdiffusion.evaluate.brightness import PromptResult, Spread


def flat(value):
    return Image.new("RGB", (16, 16), (value,) * 3)


@pytest.fixture
def results():
    return [
        PromptResult('a <dark> & "odd" room', [flat(120), flat(130)], [flat(2), flat(4)], Spread(3, 2)),
        PromptResult("a page", [flat(120), flat(130)], [flat(250), flat(254)]),
    ]


def test_json_has_the_promised_shape(results):
    made = report.as_json(results, "tiny", {"steps": 50}, 12.34)
    assert made == {
        "model": "tiny",
        "settings": {"steps": 50},
        "seconds": 12.3,
        "prompts": [
            {
                "prompt": 'a <dark> & "odd" room',
                "real": {"mean": 3, "std": 2},
                "off": {"mean": 125, "std": 5},
                "on": {"mean": 3, "std": 1},
            },
            {"prompt": "a page", "real": None, "off": {"mean": 125, "std": 5}, "on": {"mean": 252, "std": 2}},
        ],
    }


def test_table(results):
    stream = io.StringIO()
    Console(file=stream, width=120).print(report.table(results))
    assert "125.0 ± 5.0" in stream.getvalue()
    assert "252.0 ± 2.0" in stream.getvalue()


class Audit(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.images, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in ("img", "meta", "line", "polygon"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_self_contained(results):
    text = report.page(results, "Title & more", {"steps": 50})
    audit = Audit()
    audit.feed(text)
    assert audit.open == []
    assert len(audit.images) == 8
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in audit.images)
    assert "script" not in audit.tags
    assert "link" not in audit.tags
    assert "http" not in text
    assert "<dark>" not in text
    assert "a &lt;dark&gt; &amp; &quot;odd&quot; room" in text
    assert text.count("<svg") == 2


def test_histogram_stands_where_the_brightness_is(results):
    dark = report._luma_shares(results[0].on, 32)
    assert dark[0] == 1
    light = report._luma_shares(results[1].on, 32)
    assert light[31] == 1
    assert report._luma_shares(results[0].off, 32).sum() == pytest.approx(1)


def test_grid_shows_without_above_with(results):
    image = report.grid(results)
    row = [int(value) for value in np.asarray(image)[:, 118 + 8, 0]]
    assert row.index(120) < row.index(2)


def test_files_are_whole_or_not_there(tmp_path):
    files.write_whole(tmp_path / "a.txt", "one")
    files.write_whole(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_text() == "two"
    with pytest.raises(SingDiffusionError, match="cannot write"):
        files.write_whole(tmp_path / "a.txt" / "b", "x")
    with pytest.raises(SingDiffusionError, match="cannot write into the folder"):
        files.output_folder(tmp_path / "a.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
