"""The pages of docs/ agree with the code and with each other, their pictures and formulas are complete, and their commands fit a screen."""

import importlib.util
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from .documents import PAGES, blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WIDTH = 90  # columns of a command


def script(name):
    """Return a script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- pages that are written from the code --------------------------------------------------------------------------------


@pytest.mark.skipif(
    f"diffusers=={version('diffusers')}" not in (ROOT / "constraints.txt").read_text().split(),
    reason="the tables show the schedulers of the diffusers in constraints.txt",
)
def test_tables_are_up_to_date():
    for name, text in script("tables").pages().items():
        assert (DOCS / name).read_text() == text, "run: python docs/tables.py"


@pytest.mark.skipif(
    f"typer=={version('typer')}" not in (ROOT / "constraints.txt").read_text().split(),
    reason="other versions of typer lay out help in other ways",
)
def test_commands_are_up_to_date():
    assert (DOCS / "commands.md").read_text() == script("commands").page(), "run: make docs"


def test_the_time_to_the_first_picture_is_the_measured_one():
    assert script("performance").first_picture() in (DOCS / "performance.md").read_text()


def test_captions_of_the_theory_are_up_to_date():
    page = " ".join((DOCS / "theory.md").read_text().split())
    for name, caption in json.loads((DOCS / "theory" / "theory.json").read_text())["captions"].items():
        assert f"(theory/{name}.svg) *{' '.join(caption.split())}*" in page, (
            f"copy the caption of {name} from theory.json"
        )


# -- pictures ------------------------------------------------------------------------------------------------------------


def test_pictures_that_pages_show_are_there():
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for target in re.findall(r"!?\[[^\]]*\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)


def test_every_plot_has_a_dark_form():
    light = {file for file in DOCS.rglob("*.svg") if not file.stem.endswith("-dark")}
    assert len(light) > 8
    assert {file.with_stem(f"{file.stem}-dark") for file in light} == set(DOCS.rglob("*-dark.svg"))


# -- figures that several pages quote ------------------------------------------------------------------------------------


def rows(page, columns):
    """Return the rows of a page's tables with these columns: first cell -> the others, without what follows ±."""
    table = re.search(rf"^\| {re.escape(columns)} \|\n\|[-:| ]+\|\n((?:\|.*\|\n)+)", page.read_text(), re.M)
    assert table, (page.name, columns)
    cells = ([cell.strip().partition(" ±")[0] for cell in row.strip("|").split("|")] for row in table[1].splitlines())
    return {first: others for first, *others in cells}


def test_the_first_page_quotes_the_measured_figures():
    measured = rows(DOCS / "embedded.md", "prompt | real pictures | without | with SingDiffusion")
    for page in (DOCS / "index.md", ROOT / "README.md"):
        assert rows(page, "prompt | real pictures | without | with SingDiffusion") == measured


def test_remedies_quote_the_measured_figures():
    (columns,) = set(re.findall(r"^\| (remedy \| brightness miss .*) \|$", (DOCS / "results.md").read_text(), re.M))
    measured = rows(DOCS / "results.md", columns)
    quoted = rows(DOCS / "remedies.md", "remedy | miss | Fréchet | time")
    for remedy, figures in quoted.items():
        assert figures == [measured[remedy][i] for i in (0, 2, 5)], remedy
    assert quoted.keys() == {remedy for remedy, figures in measured.items() if figures[0] != "–"}


# -- commands ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_long_commands_are_broken(page):
    """Output that is shown below a command is as wide as it is."""
    for block in blocks(page):
        for line in block.code.splitlines():
            if block.kind == "sh" or (block.kind == "console" and line.startswith("$ ")):
                assert len(line) <= WIDTH, f"{page.name}:{block.line}: break it with a backslash: {line}"
