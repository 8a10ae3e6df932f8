"""Model cards: every folder of weights that ships has one. Cards and docs/embedded.md have the figures that were measured."""

import json
import runpy
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from recipes.tiny import cards
from singdiffusion import tiny

HERE = Path(tiny.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
FOLDERS = sorted({file.relative_to(HERE).parts[0] for file in HERE.rglob("*.safetensors")})


def test_the_cards_are_up_to_date():
    made = cards.cards(HERE)
    assert sorted(made) == FOLDERS
    for name, text in made.items():
        assert (HERE / name / "README.md").read_text() == text, "run: python -m recipes.tiny cards"


def test_the_page_of_the_embedded_models_is_up_to_date():
    page = runpy.run_path(str(DOCS / "embedded.py"))["page"]
    made = page(json.loads((HERE / "demo.json").read_text()))
    assert (DOCS / "embedded.md").read_text() == made, "run: python docs/embedded.py --page-only"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_card_has_what_the_hub_expects(name):
    card = ModelCard((HERE / name / "README.md").read_text())
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["language"] == "en"
    assert data["library_name"] in ("diffusers", "singdiffusion", "transformers")
    assert "singdiffusion" in data["tags"]
    assert data.get("pipeline_tag", "text-to-image") in ("text-to-image", "zero-shot-image-classification")
    headings = " ".join(line for line in card.text.splitlines() if line.startswith("## "))
    parts = ["Intended use", "raining", "aluation", "Limits"] + ["Data", "Bias"] * (name == "base")
    assert all(part in headings for part in parts), headings
