"""The recipe still writes the captions of the shipped models. Icons and views here are made up; nothing is fetched.

Which captions are drawn depends on the seeds and on the vocabulary, not on the pixels of icons and views.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from recipes.tiny import captions, export
from recipes.tiny.base import COMPOSITES
from recipes.tiny.pictures import ICON_SIZES, PER_SEED, VIEWS_PER_PLACE, World, held_out
from recipes.tiny.vocabulary import EMOJI, LINE, PLACES
from singdiffusion import tiny

CORPUS = "398bf0f620764d4ef626ce67e01f230e30876522597c5c400ac42e3c6ce45885"  # of the captions that the models were trained with


@pytest.fixture(scope="module")
def world():
    """The world of the training, with its names and numbers of views, and empty pictures."""
    icon = [np.zeros((size, size, 4), np.float32) for size in ICON_SIZES]
    emoji, line = (
        {name: icon for name in names if not held_out(kind, name)} for kind, names in (("emoji", EMOJI), ("line", LINE))
    )
    return World(emoji, line, {place: np.ones((VIEWS_PER_PLACE, 1, 1, 3), np.float16) for place in PLACES})


def test_captions_of_the_shipped_pictures(world):
    _, contents = export.shipped_pictures(world)
    assert contents == json.loads((Path(tiny.__file__).parent / "pictures.json").read_text())


def test_captions_to_measure_brightness_on(world):
    """Those that name the background or light, and those that leave it open, do not depend on the training set."""
    chosen, shipped = captions.choose(world, set()), tiny.captions()
    assert list(chosen) == list(shipped)
    for group in ("stated", "open"):
        assert list(chosen[group]) == list(shipped[group])


@pytest.mark.slow
def test_captions_of_the_training_set(world):
    digest, trained = hashlib.sha256(), set()
    for start in range(0, COMPOSITES, PER_SEED):
        rng = np.random.default_rng((4, start))
        for _ in range(PER_SEED):
            caption = world.sample(rng)[1]
            trained.add(caption)
            digest.update(caption.encode() + b"\n")
    assert digest.hexdigest() == CORPUS
    assert list(captions.choose(world, trained)["new"]) == list(tiny.captions()["new"])
