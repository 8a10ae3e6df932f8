"""The pages of docs/ say what the code says, and agree with each other."""

import ast
import importlib.util
import re
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOMS = ("core", "modules", "plugin", "data", "train evaluate theory", "web", "cli")  # each may import those before it
ANYWHERE = {"errors", "choices", "files", "tiny", "__version__"}


def script(name):
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_up_to_date():
    for name, text in script("tables").pages().items():
        assert (DOCS / name).read_text() == text, "run: python docs/tables.py"


@pytest.mark.skipif(
    f"typer=={version('typer')}" not in (ROOT / "constraints.txt").read_text().split(),
    reason="other versions of typer lay out help in other ways",
)
def test_commands_are_up_to_date():
    assert (DOCS / "commands.md").read_text() == script("commands").page(), "run: make docs"


def test_pictures_that_pages_show_are_there():
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for target in re.findall(r"!?\[[^\]]*\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)


def rows(page, columns):
    """Of a page's tables with these columns: first cell -> the others, without what follows ±."""
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


def test_rooms_import_one_way():
    """docs/architecture.md and CONTRIBUTING.md: cli -> theory, evaluate, train -> data -> plugin -> modules -> core."""
    package, allowed = ROOT / "src" / "singdiffusion", set(ANYWHERE)
    for names in ROOMS:
        for room in names.split():
            for file in (package / room).rglob("*.py"):
                depth = len(file.relative_to(package).parts)
                for node in ast.walk(ast.parse(file.read_text())):
                    if isinstance(node, ast.ImportFrom) and node.level == depth:
                        used = {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
                        assert used <= allowed | {room}, (file, used)
        allowed |= set(names.split())
