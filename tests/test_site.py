"""The documentation site: it builds without a warning or a network, is complete and readable, and a mistake fails the build."""

import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from singdiffusion.plots import SMALL, WIDTH

from .commands import ENV

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHONE = {"width": 390, "height": 844}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("site"),
    pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="the site needs pip install '.[docs]'"),
]


def build(project, **changes):
    """Build a copy of the project, with text added to pages; return the site's folder and the process."""
    shutil.copytree(ROOT / "docs", project / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("zensical.toml", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, project)
    (project / "src").symlink_to(ROOT / "src")
    for page, text in changes.items():
        file = project / "docs" / f"{page}.md"
        file.write_text(file.read_text() + "\n" + text + "\n")
    no_network = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=project, env=ENV | no_network, capture_output=True, text=True, timeout=200)
    return project / "build" / "site", done


class Page(HTMLParser):
    """What a page loads (``src``, stylesheets and icons), its links, its anchors and its pictures."""

    def __init__(self, file):
        super().__init__()
        self.loads, self.links, self.anchors, self.headings, self.pictures = [], [], set(), [], []
        self.feed(file.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if given.get("src"):
            self.loads.append(given["src"])
        if given.get("href"):
            (self.links if tag == "a" else self.loads).append(given["href"])
        if tag == "h1":
            self.headings.append(tag)
        if tag == "img":
            self.pictures.append(given)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def pages(site):
    """Return the built pages: file -> ``Page``."""
    found = {file: Page(file) for file in site[0].glob("*.html") if file.name != "404.html"}
    assert len(found) > 25
    return found


# -- the build -----------------------------------------------------------------------------------------------------------


def test_it_builds_without_a_warning(site):
    _, done = site
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    assert not re.search("griffe|warning|mkdocstrings", done.stdout + done.stderr, re.I), done.stderr


def test_every_page_has_one_title(pages):
    assert {file.name: len(page.headings) for file, page in pages.items()} == {file.name: 1 for file in pages}


def test_pages_load_only_files_of_the_site(pages):
    for file, page in pages.items():
        for target in page.loads:
            parts = urlsplit(target)
            assert not parts.scheme + parts.netloc, f"{file.name} loads {target}"
            assert (file.parent / unquote(parts.path)).is_file(), f"{file.name} shows {target}, which is not there"


def test_links_within_the_site_lead_somewhere(pages):
    for file, page in pages.items():
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.path.endswith((".xml", ".json")):
                continue
            there = (file.parent / unquote(parts.path)).resolve() if parts.path not in ("", ".") else file
            assert there in pages or there.is_file(), f"{file.name} links to {target}, which is not there"
            if parts.fragment and there in pages:
                assert unquote(parts.fragment) in pages[there].anchors, f"{file.name} links to {target}"


def test_every_page_is_in_the_navigation(site):
    named = set(re.findall(r'"([\w-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert named == {file.name for file in (ROOT / "docs").glob("*.md")}


def test_no_script_of_the_repository_is_published(site):
    assert not [file for pattern in ("**/*.py", "**/*.in") for file in site[0].glob(pattern)]


# -- pictures and formulas -----------------------------------------------------------------------------------------------


def test_every_picture_has_a_description(pages):
    for file, page in pages.items():
        for picture in page.pictures:
            assert picture.get("alt"), f"{file.name}: {picture}"


def test_every_plot_has_a_form_for_light_and_for_dark_pages(pages):
    shown = [picture["src"] for page in pages.values() for picture in page.pictures if ".svg" in picture["src"]]
    light = {source.removesuffix(".svg#only-light") for source in shown if source.endswith("#only-light")}
    dark = {source.removesuffix("-dark.svg#only-dark") for source in shown if source.endswith("#only-dark")}
    assert len(shown) == sum(source.endswith(("#only-light", "#only-dark")) for source in shown)
    assert light == dark
    assert {"theory/brightness", "theory/module", "pictures/pareto_0"} <= light


def test_formulas_are_mathml(pages):
    for file in pages:
        text = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", file.read_text(), flags=re.S)
        assert text.count("arithmatex") == text.count("<math "), file.name
        assert not re.search(r"\$\$|\$[^\s$][^$\n]*\$", text), f"{file.name}: a formula that is not typeset"
    assert (next(iter(pages)).parent / "how.html").read_text().count("<math ") > 20


# -- in a browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH (Debian: apt install chromium)")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield made
        made.close()


@pytest.fixture(scope="module")
def phone(browser):
    """Return a page of a phone, in dark mode."""
    context = browser.new_context(viewport=PHONE, color_scheme="dark", is_mobile=True)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def visited(pages, phone):
    """Open every page; return the width of each, in pixels, and all addresses that were requested."""
    widths, requests = {}, []
    phone.on("request", lambda request: requests.append(request.url))
    for file in pages:
        phone.goto(file.as_uri())
        widths[file.name] = phone.evaluate("document.documentElement.scrollWidth")
    return widths, requests


def test_no_page_scrolls_sideways_on_a_phone(visited):
    assert not {name: width for name, width in visited[0].items() if width > PHONE["width"]}


def test_no_request_leaves_the_site(site, visited):
    assert len(visited[1]) > 5 * len(visited[0])
    assert not [url for url in visited[1] if not url.startswith((site[0].as_uri(), "data:", "blob:"))]


def test_plots_follow_the_reader_and_the_switch(site, phone):
    shown = """() => [...document.querySelectorAll("img.plot")].filter(each => each.checkVisibility())
                     .map(each => [each.getAttribute("src").split("#")[1], each.naturalWidth > 0])"""
    phone.goto((site[0] / "theory.html").as_uri())
    phone.wait_for_function("[...document.images].every(each => each.complete)")
    dark = phone.evaluate(shown)
    assert dark == [["only-dark", True]] * 8
    phone.locator("label[for^=__palette]:visible").click()
    assert phone.evaluate(shown) == [["only-light", True]] * 8


def test_letters_of_plots_are_large_enough_on_a_phone(site, phone):
    """Plots are drawn for ``plots.WIDTH`` inches: shown at that width, a point of their text is a pixel."""
    phone.goto((site[0] / "theory.html").as_uri())
    widths = phone.evaluate("[...document.querySelectorAll('img.plot')].map(each => each.clientWidth).filter(Boolean)")
    assert min(widths) * SMALL / (72 * WIDTH) > 8


@pytest.mark.parametrize("name", ["how", "theory", "audit"])
def test_formulas_fit_a_phone(name, site, phone):
    phone.goto((site[0] / f"{name}.html").as_uri())
    wide = "[...document.querySelectorAll('div.arithmatex')].filter(each => each.scrollWidth > each.clientWidth).length"
    assert phone.evaluate(wide) == 0


def test_the_first_column_of_a_wide_table_stays(site, phone):
    phone.goto((site[0] / "results.html").as_uri())
    moved = phone.evaluate("""() => {
        const wrap = [...document.querySelectorAll(".md-typeset__scrollwrap")].find(each => each.scrollWidth > each.clientWidth + 100);
        const places = () => [...wrap.querySelector("tbody tr").cells].slice(0, 2).map(each => each.getBoundingClientRect().x);
        const before = places();
        wrap.scrollLeft = 100;
        return places().map((place, i) => place - before[i]);
    }""")
    assert moved[0] > -15, "the first column may move by the table's margin only"
    assert moved[1] == pytest.approx(-100, abs=1)


# -- mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake",
    [
        "[a](nowhere.md)",
        "[a](audit.md#nowhere)",
        "[a][singdiffusion.Nowhere]",
        "::: singdiffusion.Nowhere",
        "$\\nowhere$",
        '--8<-- "nowhere.md"',
    ],
)
def test_a_mistake_fails_the_build(mistake, tmp_path):
    _, done = build(tmp_path, faq=mistake)
    assert done.returncode != 0, done.stdout + done.stderr
