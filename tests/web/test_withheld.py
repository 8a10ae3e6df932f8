"""Pictures that a model's real safety checker withholds, through the studio, the HTTP API of a real server, and the page."""

import re

import pytest

from singdiffusion import SingDiffusion, tiny
from singdiffusion.web import drawings
from singdiffusion.web.settings import Settings
from singdiffusion.web.studio import Studio
from tests.painting.checkers import add_checker
from tests.web.serving import serve
from tests.web.test_browser import CHROMIUM, PHONE, WIDE, Visitor, chromium, sync_api  # noqa: F401  (chromium is a fixture)

BLACK = "solid black background"
SETTINGS = {"prompt": BLACK, "num_inference_steps": 4}
LINE = "The model’s safety checker withheld"


@pytest.fixture(scope="module")
def pair(studio):
    """Pictures without and with SingDiffusion that pass without a checker."""
    return studio.paint(Settings(**SETTINGS)).pairs[0]


def checked(flagged, pair):
    """The embedded model with a checker that withholds "on", "off" or "both"."""
    pipe = tiny.load_pipeline()
    add_checker(pipe, *{"on": (pair.on, pair.off), "off": (pair.off, pair.on), "both": ()}[flagged])
    return pipe


@pytest.mark.parametrize("flagged", ["on", "off", "both"])
def test_a_withheld_picture_has_no_figure_and_no_file(pair, flagged):
    studio = Studio("x", checked(flagged, pair), {"tiny": SingDiffusion.from_pretrained("tiny")})
    made = studio.paint(Settings(**SETTINGS))
    parts = {"on", "off"} if flagged == "both" else {flagged}
    found = drawings.as_json(made)["pictures"][0]
    for part, image, luma in zip(("off", "on"), (pair.off, pair.on), pair.mean_luma, strict=True):
        if part in parts:
            assert found[part] == {"png": None, "mean_luma": None, "withheld": True}
        else:
            assert found[part]["withheld"] is False
            assert found[part]["mean_luma"] == pytest.approx(luma, abs=0.01)
            assert image.tobytes() == getattr(made.pairs[0], part).tobytes()
    shown = drawings.shown(made)[0]
    assert set(shown["withheld"]) == parts
    assert {"on", "off", "compare"} & set(shown) == {"on", "off"} - parts
    assert [luma is None for luma in shown["mean_luma"]] == [part in parts for part in ("off", "on")]
    assert ("<svg" in shown["histogram"]) == (flagged != "both")
    assert (shown["width"], shown["height"]) == (64, 64)


def test_off_alone_can_be_withheld(pair):
    made = Studio("x", checked("off", pair)).paint(Settings(**SETTINGS))
    assert made.pairs[0].withheld == ("off",)
    assert drawings.as_json(made)["pictures"][0] == {
        "seed": 0,
        "off": {"png": None, "mean_luma": None, "withheld": True},
        "on": None,
    }
    assert drawings.shown(made)[0]["mean_luma"] == [None]


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
@pytest.mark.parametrize("flagged", ["on", "off", "both"])
def test_the_api_and_the_page_name_it(pair, flagged, tmp_path, chromium):  # noqa: F811
    checked(flagged, pair).save_pretrained(tmp_path / "model")
    with serve("--model", tmp_path / "model", "--module", "tiny") as served:
        _, event, data = served.call("paint", SETTINGS, version="v2/")
        assert event == "complete"
        found = data[0]["pictures"][0]
        assert [found[part]["withheld"] for part in ("off", "on")] == [flagged != "on", flagged != "off"]
        for viewport in (WIDE, PHONE):
            with chromium.new_context(viewport=viewport) as context:
                visitor = Visitor(context.new_page(), served.url)
                visitor.set("Steps", 4)
                visitor.paint(BLACK)
                visitor.paint(BLACK)  # so that the strip with earlier pictures is there
                _look(visitor, flagged)
                visitor.page.screenshot(path=tmp_path / f"{flagged}-{viewport['width']}.png", full_page=True)


def _look(visitor, flagged):
    stage, count = visitor.page.locator(".stage"), 2 if flagged == "both" else 1
    sync_api.expect(visitor.status).to_contain_text(f"{LINE} {count} of 2 pictures.")
    which = {
        "on": "the picture with SingDiffusion",
        "off": "the picture without SingDiffusion",
        "both": "both pictures",
    }
    assert stage.locator("p.withheld").all_text_contents() == [
        f"{LINE} {which[flagged]}. Another prompt or seed may pass."
    ]
    lumas = visitor.page.locator(".lumas b").all_text_contents()
    assert [luma == "withheld" for luma in lumas] == {"on": [False, True], "off": [True, False], "both": []}[flagged]
    assert stage.locator(".compare img").count() == 2 - count
    assert visitor.slider.count() == 0
    assert stage.locator(".downloads a").count() == 2 - count
    assert stage.get_by_role("img", name=re.compile("Histogram")).count() == (flagged != "both")
    sync_api.expect(visitor.session).to_have_count(2)
    assert not visitor.problems
