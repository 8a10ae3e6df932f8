"""A report states what was measured, and its page needs no other files."""

import html
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from singdiffusion import SingDiffusionError, files
from singdiffusion.evaluate.brightness import PromptBrightness
from singdiffusion.evaluate.metrics.brightness import Brightness
from singdiffusion.evaluate.remedies import Off
from singdiffusion.evaluate.reports import brightness
from singdiffusion.evaluate.reports.demo import demo_document
from singdiffusion.evaluate.reports.document import REPORT, as_json
from singdiffusion.evaluate.reports.histogram import Series, histogram
from singdiffusion.evaluate.reports.pictures import grid
from singdiffusion.evaluate.reports.style import COLORS, series
from singdiffusion.painting.luma import histogram as counts_of
from singdiffusion.painting.luma import luma_shares, mean_luma, pixel_lumas
from singdiffusion.painting.paint import side_by_side
from singdiffusion.painting.prompts import named

ODD = 'a <dark> & "odd" room'
PROMPTS = named([ODD, "a page"])


def flat(value):
    return Image.new("RGB", (16, 16), (value,) * 3)


class Other(Off):
    """A remedy by another name."""

    def __init__(self, name="tiny-moments", title="SingDiffusion, tiny (moments)"):
        self.name, self.title = name, title  # type: ignore[misc]


def measured(remedy, pictures, model="tiny"):
    """Of flat pictures, by prompt."""
    found = {
        prompt.id: Brightness.of([mean_luma(i) for i in images], sum(counts_of(pixel_lumas(i)) for i in images))
        for prompt, images in zip(PROMPTS, pictures, strict=True)
    }
    return PromptBrightness(model, remedy, found, {p.id: i for p, i in zip(PROMPTS, pictures, strict=True)}, {"s": 1})


@pytest.fixture
def both():
    off = measured(Off(), [[flat(120), flat(130)]] * 2)
    return off, measured(Other(), [[flat(2), flat(4)], [flat(250), flat(254)]])


@pytest.fixture
def demo(both):
    return demo_document(both, PROMPTS, {ODD: {"mean": 3, "std": 2}}, {"num_inference_steps": 50}, 12.34)


def test_json_has_the_promised_shape(demo):
    figures = {key: demo.figures[key] for key in ("model", "settings", "seconds", "prompts")}
    assert figures == {
        "model": "tiny",
        "settings": {"num_inference_steps": 50},
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
    json.dumps(demo.figures)


def test_table(demo):
    stream = io.StringIO()
    Console(file=stream, width=140).print(demo.tables[0].rich())
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


def check_page(text, images):
    audit = Audit()
    audit.feed(text)
    assert audit.open == []
    assert len(audit.images) == images
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in audit.images)
    assert "script" not in audit.tags
    assert "link" not in audit.tags
    assert "http" not in text
    assert "<dark>" not in text
    assert "a &lt;dark&gt; &amp; &quot;odd&quot; room" in text
    assert text.count("<svg") == 2


def test_the_page_is_whole_and_self_contained(demo):
    demo.title = "Title & more"
    text = demo.html()
    check_page(text, 8)
    assert "<h1>Title &amp; more</h1>" in text
    assert text.count('class="real"') == 1, "a line where real pictures' brightness is known"


def test_the_page_of_several_models_is_too(both):
    """Twelve columns: more than there are colours."""
    columns = [*both, *(measured(Other(f"r{i}", f"remedy {i}"), [[flat(i)] * 2] * 2, "tiny-v") for i in range(10))]
    made = brightness.document(columns, PROMPTS, {"tiny": {"0": 3.0}}, {"seed": 0}, ["a note <b>"])
    check_page(made.html(), 2 * 2 * 12)
    assert made.html().count("<polygon") == 2 * 12
    assert "a note &lt;b&gt;" in made.html()
    assert made.tables[0].rows[0][:3] == [ODD, "125.0 ± 5.0", "3.0 ± 1.0"]
    assert made.tables[1].columns == ["prompt", "real pictures", "without", "SingDiffusion, tiny (moments)"]
    assert [row["mean_luma"] for row in made.figures["results"][:4]] == pytest.approx([125, 125, 3, 252])
    assert [row["miss"] for row in made.figures["summary"]] == [None] * 12, "of a page no real pictures are known"
    json.loads(as_json(made.figures))


def test_histogram_stands_where_the_brightness_is(both):
    dark = luma_shares(both[1].shown["0"])
    assert dark[0] == 1
    light = luma_shares(both[1].shown["1"])
    assert light[31] == 1
    assert luma_shares(both[0].shown["0"]).sum() == pytest.approx(1)
    drawn = histogram("x", [Series("without", dark, "off"), Series("with", light, "on")], [3.0])
    assert drawn.index("polygon") < drawn.index('class="real"')
    assert 'aria-label="Histogram of pixel brightness for x, without and with"' in drawn


def test_every_series_has_a_color():
    assert [series(i) for i in range(3)] == ["off", "on", "series-2"]
    assert {series(i) for i in range(40)} == set(COLORS)


def test_grid_shows_without_above_with(both):
    off, on = both
    image = grid([(prompt.text, off.shown[prompt.id], on.shown[prompt.id]) for prompt in PROMPTS])
    row = [int(value) for value in np.asarray(image)[:, 118 + 8, 0]]
    assert row.index(120) < row.index(2)


def test_side_by_side_shows_without_left_of_with():
    row = np.asarray(side_by_side(flat(9), flat(200)))[8, :, 0]
    assert (row[:16] == 9).all()
    assert (row[-16:] == 200).all()


def test_a_number_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"mean_luma": float("nan")})


HOSTILE = "[red]a[/red] \x1b[31m \u202e `b` <img src=x> | $c$\n_d_ [e](f) \ud800"


def test_texts_from_outside_are_shown_and_not_obeyed(both, tmp_path):
    off, on = (replace(each, model=HOSTILE) for each in both)
    prompt = replace(PROMPTS[0], text=HOSTILE)
    made = brightness.document([off, on], [prompt, PROMPTS[1]], {}, {"model": HOSTILE}, [HOSTILE])
    made.figures["command_line"] = f"singdiffusion {HOSTILE}"
    made.write(tmp_path)
    shown = r"[red]a[/red] \x1b[31m \u202e"
    stream = io.StringIO()
    Console(file=stream, width=250).print(made.tables[0].rich())
    assert f"│ {shown} `b` <img src=x> | $c$ _d_ [e](f) \\ud800" in stream.getvalue()
    page = (tmp_path / "index.html").read_text()
    assert "<img src=x>" not in page
    assert html.escape(shown) in page
    table = (tmp_path / "table.md").read_text()
    line = r"[red]a[/red] \\x1b[31m \\u202e \`b\` \<img src=x> \| \$c\$ \_d\_ [e\](f) \\ud800"
    assert f"| {line} | 125.0 ± 5.0" in table
    assert f"- {line}\n" in table
    assert "``singdiffusion [red]a[/red] " in table
    assert json.loads((tmp_path / "figures.json").read_text())["results"][0]["prompt"] == HOSTILE
    for text in (page, table, stream.getvalue()):
        assert not set(text) & set("\x1b\u202e\ud800")


def test_a_report_replaces_reports_only(demo, tmp_path):
    demo.write(tmp_path / "out")
    demo.write(tmp_path / "out")
    for name in REPORT:
        theirs = tmp_path / name.partition(".")[0]
        theirs.mkdir()
        (theirs / name).write_text("of a user, about singdiffusion")
        with pytest.raises(
            SingDiffusionError, match=f"{name} is not of a report and would be replaced; move it"
        ) as caught:
            demo.write(theirs)
        assert caught.value.setting == "out"
        assert [file.name for file in theirs.iterdir()] == [name]


def test_a_folder_that_is_only_checked_is_not_left(tmp_path):
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "a" / "b", tmp_path / "there" / "c"):
        assert files.check_folder(folder) == folder
    assert [file.name for file in tmp_path.rglob("*")] == ["there"]
    (tmp_path / "file").write_text("")
    with pytest.raises(SingDiffusionError, match="cannot write into the folder"):
        files.check_folder(tmp_path / "file" / "x")


def test_files_are_whole_or_not_there(tmp_path):
    files.write_whole(tmp_path / "a.txt", "one")
    files.write_whole(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_text() == "two"
    with pytest.raises(SingDiffusionError, match="cannot write"):
        files.write_whole(tmp_path / "a.txt" / "b", "x")
    with pytest.raises(SingDiffusionError, match="cannot write into the folder"):
        files.output_folder(tmp_path / "a.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
