"""Captions to measure brightness on, with the brightness of real pictures of each.

``said``: the ground or the light is said; ``unsaid``: it is left open; both as often of each kind as in training. ``new``: it is said, and
no picture of the training set had this caption; these are mostly logos on coloured grounds, whatever else there is being common.
"""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .pictures import Picture, World, article, expose, luma, spoken
from .vocabulary import COLOURS, LIGHT, PLACES, SHARES

EACH = 100  # captions a group
REAL = 64  # pictures a caption
SEED = 31

Draw = Callable[[np.random.Generator], Picture]


def choose(world: World, trained: set[str]) -> dict[str, dict[str, Draw]]:
    """group -> caption -> how a real picture of it is drawn."""
    rng = np.random.default_rng(SEED)
    chosen: dict[str, dict[str, Draw]] = {"said": {}, "unsaid": {}, "new": {}}
    while any(len(group) < EACH for group in chosen.values()):
        said, unsaid = _SUBJECTS[str(rng.choice(list(SHARES), p=list(SHARES.values())))](world, rng)
        offered = {"said": said, "unsaid": unsaid} | ({} if said[0] in trained else {"new": said})
        for group, (caption, draw) in offered.items():
            if len(chosen[group]) < EACH:
                chosen[group].setdefault(caption, draw)
    return chosen


Subject = tuple[tuple[str, Draw], tuple[str, Draw]]  # one thing, its ground or light said and unsaid


def _any_colour(rng: np.random.Generator) -> str:
    return str(rng.choice(list(COLOURS)))


def _logo_colour(rng: np.random.Generator) -> str:
    return str(rng.choice(["black", "white"])) if rng.random() < 0.6 else _any_colour(rng)


def _solid(world: World, rng: np.random.Generator) -> Subject:
    colour = _any_colour(rng)
    return (
        (f"solid {colour} background", lambda r: world.flat(r, colour)),
        ("solid background", lambda r: world.flat(r, _any_colour(r))),
    )


def _line(world: World, rng: np.random.Generator) -> Subject:
    name, colour = str(rng.choice(list(world.line))), _logo_colour(rng)
    caption = f"monochrome line-art logo of {article(spoken(name))}"
    return (
        (f"{caption} on {article(colour)} background", lambda r: world.drawn(r, name, colour)),
        (caption, lambda r: world.drawn(r, name, _logo_colour(r))),
    )


def _emoji(world: World, rng: np.random.Generator) -> Subject:
    name, colour = str(rng.choice(list(world.emoji))), _any_colour(rng)
    return (
        (f"{spoken(name)} on {article(colour)} background", lambda r: world.stuck(r, name, colour)),
        (spoken(name), lambda r: world.stuck(r, name, _any_colour(r))),
    )


def _photo(world: World, rng: np.random.Generator) -> Subject:
    place, light = str(rng.choice(list(PLACES))), str(rng.choice(list(LIGHT)))

    def shot(r: np.random.Generator, light: str) -> Picture:
        views = world.views[place]
        return expose(views[r.integers(len(views))].astype(np.float32), r.uniform(*LIGHT[light]))

    return (
        (f"{light} of {PLACES[place]}", lambda r: shot(r, light)),
        (f"photo of {PLACES[place]}", lambda r: shot(r, str(r.choice(list(LIGHT))))),
    )


_SUBJECTS = {"solid": _solid, "line": _line, "emoji": _emoji, "photo": _photo}


def trained_captions(corpus: Path) -> set[str]:
    """Every caption of the training set, read from its shards."""
    found = set()
    for file in sorted(corpus.glob("*.tar")):
        with tarfile.open(file) as tar:
            texts = (tar.extractfile(member) for member in tar if member.name.endswith(".txt"))
            found |= {text.read().decode() for text in texts if text is not None}
    return found


def measured(world: World, trained: set[str]) -> dict[str, dict[str, list[float]]]:
    """group -> caption -> mean luma (0..255) of each of ``REAL`` real pictures."""
    rng = np.random.default_rng((SEED, 1))
    return {
        group: {caption: [round(float(luma(draw(rng)).mean()), 1) for _ in range(REAL)] for caption, draw in of.items()}
        for group, of in choose(world, trained).items()
    }


def write(target: Path, world: World, corpus: Path) -> None:
    """``captions.json`` in the package's folder."""
    lines = {
        group: "{\n"
        + ",\n".join(f"  {json.dumps(caption)}: {json.dumps(lumas)}" for caption, lumas in of.items())
        + "\n }"
        for group, of in measured(world, trained_captions(corpus)).items()
    }
    text = "{\n" + ",\n".join(f' "{group}": {body}' for group, body in lines.items()) + "\n}\n"
    (target / "captions.json").write_text(text)
