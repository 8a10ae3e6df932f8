"""The pages of docs/ that follow from the code say what the code says."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_tables_are_up_to_date():
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for name, text in tables.pages().items():
        assert (DOCS / name).read_text() == text, "run: python docs/tables.py"
