"""The page as a visitor sees it: headless Chromium and a real server."""

import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from singdiffusion.painting.png import read_settings
from tests.web.proxying import reverse_proxy
from tests.web.serving import serve

sync_api = pytest.importorskip("playwright.sync_api")
ParserManager = pytest.importorskip("sd_parsers").ParserManager
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt install chromium)"),
]

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
BLACK, WHITE = "solid black background", "solid white background"


@pytest.fixture(scope="module")
def served():
    with serve() as served:
        yield served


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Visitor:
    """One visitor's tab, with the errors and foreign requests in it."""

    def __init__(self, page, url):
        self.page, self.problems, self.elsewhere = page, [], []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)
        page.on(
            "request", lambda r: self.elsewhere.append(r.url) if not r.url.startswith((url, "data:", "blob:")) else None
        )
        page.goto(url)
        self.prompt.wait_for()
        page.locator(".verdict").wait_for()

    prompt = property(lambda self: self.page.get_by_label("Prompt", exact=True))
    status = property(lambda self: self.page.locator(".stage .status"))
    slider = property(lambda self: self.page.get_by_role("slider", name=re.compile("Before and after")))
    session = property(lambda self: self.page.locator(".session li"))

    def click(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def paint(self, prompt):
        self.prompt.fill(prompt)
        self.click("Paint")
        self.shows(prompt)

    def shows(self, prompt):
        sync_api.expect(self.page.locator(".facts q")).to_have_text(prompt, timeout=60_000)
        sync_api.expect(self.status).to_contain_text("Done", timeout=60_000)

    def lumas(self):
        return [int(luma) for luma in self.page.locator(".lumas b").all_text_contents()]

    def set(self, label, value):
        field = self.page.get_by_label(label).first
        field.fill(str(value))
        field.press("Tab")


@pytest.fixture
def visit(chromium, served):
    contexts, visitors = [], []

    def visit(viewport=WIDE, **options):
        context = chromium.new_context(viewport=viewport, **options)
        contexts.append(context)
        visitors.append(Visitor(context.new_page(), served.url))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        assert not visitor.problems
        assert not visitor.elsewhere
    for context in contexts:
        context.close()


def test_type_paint_slide_and_download(visit, tmp_path):
    visitor = visit()
    visitor.paint(BLACK)
    without, with_ = visitor.lumas()
    assert with_ < 20 < without
    figure = visitor.page.locator(".compare")
    visitor.slider.focus()
    for key, at in (("Home", "0%"), ("End", "100%"), ("ArrowLeft", "99%")):
        visitor.page.keyboard.press(key)
        assert figure.evaluate("node => node.style.getPropertyValue('--at')") == at
    box = figure.bounding_box()
    visitor.page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    at = float(figure.evaluate("node => node.style.getPropertyValue('--at')").rstrip("%"))
    assert 15 < at < 35
    shot = tmp_path / "shot.png"
    figure.screenshot(path=shot)
    with Image.open(shot) as picture:  # left of the line the grey one, right of it the black one
        width, height = picture.size
        lumas = np.asarray(picture.convert("L"))
    left, right = (lumas[int(height * 0.7), int(width * at)] for at in (0.12, 0.7))
    assert right < 20 < left
    for name, part in (("without", "off"), ("with", "on"), ("side by side", "compare")):
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("link", name=name, exact=True).click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        with Image.open(file) as picture:
            settings = read_settings(picture)
            assert (settings["prompt"], settings["singdiffusion"]) == (BLACK, part)
            first_step = None if part == "off" else {"method": "moments"}
            assert (settings["module"], settings["first_step"]) == (first_step and "tiny", first_step)
        artists = ParserManager().parse(file)
        assert artists.full_prompt == BLACK
        assert artists.samplers[0].name == "DDIM"
        assert artists.samplers[0].parameters == {"steps": "50", "cfg_scale": "7.5", "seed": "0"}
    assert file.name == "solid-black-background-0-compare.png"


def test_the_histogram_and_the_command_are_there(visit):
    visitor = visit()
    visitor.paint("rocket")
    histogram = visitor.page.get_by_role("img", name=re.compile("Histogram of pixel brightness for rocket"))
    assert histogram.locator("polygon").count() == 2
    visitor.page.get_by_text("The same on the command line").click()
    command = visitor.page.locator(".command code").inner_text()
    assert command.startswith("singdiffusion generate rocket --out out --model tiny --seed 0 --steps 50")


def test_a_prompt_is_text_and_never_markup(visit):
    visitor = visit()
    visitor.set("Steps", 2)
    visitor.paint('<img src=x onerror="document.title=1"> "black" & <b>')
    assert visitor.page.locator(".stage b").count() == 2  # the two means
    assert visitor.page.title() == "SingDiffusion, before and after"


def test_an_example_paints_at_once(visit):
    visitor = visit()
    visitor.click(WHITE)
    visitor.shows(WHITE)
    assert visitor.prompt.input_value() == WHITE
    without, with_ = visitor.lumas()
    assert without < 220 < with_


def test_another_scheduler_changes_verdict_and_picture(visit):
    visitor = visit()
    visitor.paint(BLACK)
    before = visitor.page.locator(".verdict").inner_text()
    assert "Affected." in before
    assert "DDIM" in before
    visitor.page.get_by_label("Scheduler").click()
    visitor.page.get_by_role("option", name="euler", exact=True).click()
    sync_api.expect(visitor.page.locator(".verdict")).to_contain_text("Euler", timeout=20_000)
    visitor.set("Steps", 20)
    sync_api.expect(visitor.page.locator(".verdict")).to_contain_text("20 steps", timeout=20_000)
    visitor.click("Paint")
    sync_api.expect(visitor.session).to_have_count(2, timeout=60_000)
    without, with_ = visitor.lumas()
    assert with_ < 20 < without
    assert "--scheduler euler" in visitor.page.locator(".command code").text_content()


def test_off_shows_one_picture(visit):
    visitor = visit()
    visitor.page.get_by_role("radio", name="Off").check()
    visitor.paint(BLACK)
    assert len(visitor.lumas()) == 1
    assert visitor.slider.count() == 0
    sync_api.expect(visitor.page.locator(".verdict")).to_contain_text(
        "Dark and bright pictures are pulled to average grey."
    )


def test_the_first_step_takes_a_flat_color_and_a_prompt(visit):
    visitor = visit()
    visitor.page.get_by_text("More settings").click()
    assert not visitor.page.get_by_label("Prompt of the first step").is_visible()
    visitor.page.get_by_role("radio", name="a prompt of its own").check()
    visitor.page.get_by_label("Prompt of the first step").fill(WHITE)
    visitor.paint("rocket")
    bright = visitor.lumas()[1]
    visitor.page.get_by_role("radio", name="a flat colour").check()
    sync_api.expect(visitor.page.get_by_label("Prompt of the first step")).to_have_count(0)
    visitor.click("Paint")
    sync_api.expect(visitor.session).to_have_count(2, timeout=60_000)
    assert visitor.lumas()[1] < bright
    assert "--color '#101820'" in visitor.page.locator(".command code").text_content()


def test_a_missing_first_prompt_is_an_error_and_a_hidden_one_is_ignored(visit):
    visitor = visit()
    visitor.set("Steps", 2)
    visitor.page.get_by_text("More settings").click()
    visitor.page.get_by_role("radio", name="a prompt of its own").check()
    visitor.prompt.fill("rocket")
    visitor.click("Paint")
    sync_api.expect(visitor.status).to_contain_text("Prompt of the first step is empty; write one.", timeout=20_000)
    visitor.page.get_by_label("Prompt of the first step").fill(WHITE)
    visitor.page.get_by_role("radio", name="Off").check()
    visitor.paint("rocket")
    assert len(visitor.lumas()) == 1


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize(("width", "height"), [(16, 512), (512, 16)])
def test_a_picture_of_any_shape_fits_the_window(visit, viewport, width, height):
    visitor = visit(viewport)
    visitor.set("Steps", 1)
    visitor.page.get_by_text("More settings").click()
    visitor.set("Width", width)
    visitor.set("Height", height)
    visitor.paint("rocket")
    box = visitor.page.locator(".compare").bounding_box()
    assert 100 < box["width"] <= viewport["width"]
    assert 100 < box["height"] < viewport["height"]


def test_cancel_stops_the_painting(visit, served):
    visitor = visit()
    visitor.set("Steps", 150)
    visitor.prompt.fill("rocket")
    visitor.click("Paint")
    sync_api.expect(visitor.status).to_contain_text("Painting without", timeout=20_000)
    sync_api.expect(visitor.page.locator(".stage .count")).to_have_text(re.compile(r"step \d+ of 150"))
    visitor.click("Cancel")
    sync_api.expect(visitor.status).to_have_text("Cancelled.", timeout=10_000)
    assert visitor.page.locator(".compare").count() == 0
    started = time.monotonic()
    visitor.set("Steps", 1)
    visitor.paint("rocket")
    assert time.monotonic() - started < 10


def test_two_visitors_at_once_get_their_own(visit):
    one, other = visit(), visit(PHONE)
    one.set("Steps", 100)
    one.prompt.fill(BLACK)
    other.prompt.fill(WHITE)
    one.click("Paint")
    sync_api.expect(one.status).to_contain_text("Painting", timeout=20_000)
    other.click("Paint")
    sync_api.expect(other.status).to_have_text("Waiting; 1 request before yours.", timeout=20_000)
    one.shows(BLACK)
    other.shows(WHITE)
    assert one.lumas()[1] < 20
    assert other.lumas()[1] > 220


def test_a_reload_in_the_middle_keeps_what_was_painted_and_stops_the_rest(visit):
    visitor = visit()
    visitor.paint(BLACK)
    visitor.set("Steps", 150)
    visitor.prompt.fill("rocket")
    visitor.click("Paint")
    sync_api.expect(visitor.status).to_contain_text("Painting", timeout=20_000)
    visitor.page.reload()
    visitor.prompt.wait_for()
    visitor.problems.clear()  # Gradio logs the streams that it broke off
    sync_api.expect(visitor.page.locator(".facts q")).to_have_text(BLACK)
    visitor.set("Steps", 2)
    visitor.paint(WHITE)
    sync_api.expect(visitor.session).to_have_count(2)
    visitor.session.nth(1).get_by_role("button").click()
    sync_api.expect(visitor.page.locator(".facts q")).to_have_text(BLACK)


def test_a_mistake_is_shown_on_the_page(visit):
    visitor = visit()
    visitor.prompt.fill("   ")
    visitor.click("Paint")
    sync_api.expect(visitor.status).to_have_text("Prompt is empty; write what the picture shows.", timeout=20_000)
    visitor.page.get_by_text("More settings").click()
    visitor.set("Width", 65)
    visitor.prompt.fill("rocket")
    visitor.click("Paint")
    sync_api.expect(visitor.status).to_contain_text("Width must be a positive multiple of 16", timeout=20_000)


def test_a_page_behind_a_reverse_proxy_paints(chromium):
    with serve("--root-path", "/art") as served, reverse_proxy(served.url, "/art") as (url, asked):
        with chromium.new_context(viewport=WIDE) as context:
            visitor = Visitor(context.new_page(), url)
            visitor.set("Steps", 2)
            visitor.paint(BLACK)
            assert visitor.lumas()[1] < 20
            assert not visitor.elsewhere
            outside = [path for path in asked if not path.startswith("/art/")]
            assert set(outside) <= {"/favicon.ico"}  # the browser's own request, of the proxy's site
            assert len(visitor.problems) <= len(outside), visitor.problems


def test_the_keyboard_alone_paints(visit):
    visitor = visit()
    visitor.prompt.focus()
    visitor.page.keyboard.type(BLACK)
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    visitor.shows(BLACK)
    for _ in range(40):
        visitor.page.keyboard.press("Tab")
        if visitor.slider.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError("Tab never reaches the slider")


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_finding_of_axe_and_nothing_wider_than_the_window(visit, viewport, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    visitor = visit(viewport, color_scheme=scheme)
    visitor.page.get_by_text("More settings").click()
    visitor.set("Steps", 2)
    visitor.paint(BLACK)
    visitor.paint("rocket")
    visitor.page.wait_for_timeout(500)
    found = axe.Axe().run(visitor.page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious]
    wide = visitor.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
