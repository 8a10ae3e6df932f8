"""README as a landing page, and docs/architecture.md as a map: the files that it names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MAP = ROOT / "docs" / "architecture.md"
QUESTIONS = (
    "a scheduler", "a pipeline", "a metric", "a remedy", "a field of the PNG, a setting of a picture", "a layout of published modules",
    "a training loss", "a data source", "an option of one command", "an option of several commands",
    "a table of a report", "a setting of the page", "a network", "a formula",
)  # fmt: skip


def test_the_readme_is_short_and_shows_python_on_its_first_screen():
    text = README.read_text()
    assert len(text.split()) <= 750, "what is longer goes to docs/"
    first = next(number for number, line in enumerate(text.splitlines(), 1) if line == "```python")
    assert first <= 30
    assert "@inproceedings{" in text


def test_the_map_answers_the_questions_of_newcomers():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|[^|]*\|$", MAP.read_text(), re.M)
    answers = dict(rows)
    for question in QUESTIONS:
        assert re.search(r"`[\w/.]+`", answers[question]), question


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", MAP.read_text()))))
def test_the_map_names_files_that_exist(name):
    places = [ROOT, ROOT / "src" / "singdiffusion", ROOT / "src" / "singdiffusion" / "train"]
    inside = [ROOT / "src" / "singdiffusion" / "evaluate" / room for room in ("reports", "remedies")]
    module = name in ("module/", "tokenizer/", "text_encoder/", "oms_module/")  # parts of a module's folder
    assert module or any((place / name).exists() for place in places + inside), name
