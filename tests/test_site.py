"""The documentation site: it builds without a warning or a network, is whole, and a mistake fails the build."""

import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from .commands import ENV

ROOT = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("site"),
    pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="the site needs pip install '.[docs]'"),
]


def build(project, **changes):
    """``zensical build --strict`` of a copy of the project, with text added to pages: (site, process)."""
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
    """What a page loads (``src``, stylesheets and icons), where it links to, and its anchors."""

    def __init__(self, file):
        super().__init__()
        self.loads, self.links, self.anchors, self.headings = [], [], set(), []
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
            assert given.get("alt"), f"a picture without words for those who do not see it: {given}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build(tmp_path_factory.mktemp("site"))


def test_it_builds_without_a_warning(site):
    _, done = site
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    assert not re.search("griffe|warning|mkdocstrings", done.stdout + done.stderr, re.I), done.stderr


def test_every_page_is_whole_and_loads_nothing_from_elsewhere(site):
    folder = site[0]
    pages = {file: Page(file) for file in folder.glob("*.html") if file.name != "404.html"}
    assert len(pages) > 25
    for file, page in pages.items():
        assert len(page.headings) == 1, file.name
        for target in page.loads:
            parts = urlsplit(target)
            assert not parts.scheme + parts.netloc, f"{file.name} loads {target}"
            assert (file.parent / unquote(parts.path)).is_file(), f"{file.name} shows {target}, which is not there"
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


@pytest.mark.parametrize(
    "mistake",
    [
        "[a](nowhere.md)",
        "[a](audit.md#nowhere)",
        "[a][singdiffusion.Nowhere]",
        "::: singdiffusion.Nowhere",
        '--8<-- "nowhere.md"',
    ],
)
def test_a_mistake_fails_the_build(mistake, tmp_path):
    _, done = build(tmp_path, faq=mistake)
    assert done.returncode != 0, done.stdout + done.stderr
