"""Captions to measure brightness on, in three groups, with the mean luma of real pictures of each caption.

- ``stated``: the caption names the background or the light.
- ``open``: it does not, and real pictures of it vary.
- ``new``: it names the background or the light, and no picture of the training set had this caption. Most are logos on
  coloured backgrounds, because nearly all other captions occur in the training set.

Kinds are as frequent in ``stated`` and ``open`` as in training.
"""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .pictures import Picture, World, article, in_words, luma
from .vocabulary import COLORS, LIGHT, PLACES, SHARES

EACH = 100  # captions per group
REAL = 64  # pictures per caption
SEED = 31

Draw = Callable[[np.random.Generator], Picture]
Pair = tuple[tuple[str, Draw], tuple[str, Draw]]  # a subject with its background or light stated, and left open


def choose(world: World, trained: set[str]) -> dict[str, dict[str, Draw]]:
    """Return group -> caption -> function that draws a real picture of it.

    Args:
        world: what to draw from.
        trained: captions of the training set.
    """
    rng = np.random.default_rng(SEED)
    chosen: dict[str, dict[str, Draw]] = {"stated": {}, "open": {}, "new": {}}
    while any(len(group) < EACH for group in chosen.values()):
        stated, open_ = _KINDS[str(rng.choice(list(SHARES), p=list(SHARES.values())))](world, rng)
        offered = {"stated": stated, "open": open_} | ({} if stated[0] in trained else {"new": stated})
        for group, (caption, draw) in offered.items():
            if len(chosen[group]) < EACH:
                chosen[group].setdefault(caption, draw)
    return chosen


def _any_color(rng: np.random.Generator) -> str:
    return str(rng.choice(list(COLORS)))


def _logo_color(rng: np.random.Generator) -> str:
    return str(rng.choice(["black", "white"])) if rng.random() < 0.6 else _any_color(rng)


def _solid(world: World, rng: np.random.Generator) -> Pair:
    color = _any_color(rng)
    return (
        (f"solid {color} background", lambda r: world.draw_solid(r, color)),
        ("solid background", lambda r: world.draw_solid(r, _any_color(r))),
    )


def _line(world: World, rng: np.random.Generator) -> Pair:
    name, color = str(rng.choice(list(world.line))), _logo_color(rng)
    caption = f"monochrome line-art logo of {article(in_words(name))}"
    return (
        (f"{caption} on {article(color)} background", lambda r: world.draw_logo(r, name, color)),
        (caption, lambda r: world.draw_logo(r, name, _logo_color(r))),
    )


def _emoji(world: World, rng: np.random.Generator) -> Pair:
    name, color = str(rng.choice(list(world.emoji))), _any_color(rng)
    return (
        (f"{in_words(name)} on {article(color)} background", lambda r: world.draw_sticker(r, name, color)),
        (in_words(name), lambda r: world.draw_sticker(r, name, _any_color(r))),
    )


def _photo(world: World, rng: np.random.Generator) -> Pair:
    place, light = str(rng.choice(list(PLACES))), str(rng.choice(list(LIGHT)))
    return (
        (f"{light} of {PLACES[place]}", lambda r: world.draw_photo(r, place, light)),
        (f"photo of {PLACES[place]}", lambda r: world.draw_photo(r, place, str(r.choice(list(LIGHT))))),
    )


_KINDS = {"solid": _solid, "line": _line, "emoji": _emoji, "photo": _photo}


def trained_captions(corpus: Path) -> set[str]:
    """Read every caption of the training set from its shards."""
    found = set()
    for file in sorted(corpus.glob("*.tar")):
        with tarfile.open(file) as tar:
            texts = (tar.extractfile(member) for member in tar if member.name.endswith(".txt"))
            found |= {text.read().decode() for text in texts if text is not None}
    return found


def measure(world: World, trained: set[str]) -> dict[str, dict[str, list[float]]]:
    """Return group -> caption -> mean luma (0..255) of each of ``REAL`` real pictures; arguments as for ``choose``."""
    rng = np.random.default_rng((SEED, 1))
    return {
        group: {caption: [round(float(luma(draw(rng)).mean()), 1) for _ in range(REAL)] for caption, draw in of.items()}
        for group, of in choose(world, trained).items()
    }


def write(target: Path, world: World, corpus: Path) -> None:
    """Write ``captions.json`` into the package's folder, one caption per line."""
    bodies = {
        group: "{\n"
        + ",\n".join(f"  {json.dumps(caption)}: {json.dumps(lumas)}" for caption, lumas in of.items())
        + "\n }"
        for group, of in measure(world, trained_captions(corpus)).items()
    }
    text = "{\n" + ",\n".join(f' "{group}": {body}' for group, body in bodies.items()) + "\n}\n"
    (target / "captions.json").write_text(text)
