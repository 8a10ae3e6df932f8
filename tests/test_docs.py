"""The pages of docs/ that follow from the code say what the code says."""

import importlib.util
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_tables_are_up_to_date():
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for name, text in tables.pages().items():
        assert (DOCS / name).read_text() == text, "run: python docs/tables.py"


def test_the_theory_pages_code_runs():
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "theory.md").read_text(), re.S)
    exec(compile(block, "theory.md", "exec"), {})


def test_pictures_that_pages_show_are_there():
    root = DOCS.parent
    for page in (root / "README.md", *DOCS.glob("*.md")):
        for target in re.findall(r"!?\[[^\]]*\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)
