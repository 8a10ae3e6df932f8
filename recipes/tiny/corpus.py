"""The composites as captioned pictures in .tar shards, the layout that img2dataset writes, for ``singdiffusion encode``."""

import io
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from .base import COMPOSITES
from .pictures import World, load_world

SHARD = 4000  # pictures a shard
DRAWN = 250  # and a seed: those of ``base.make_latents``, so that the pictures are the same


def write(folder: Path, count: int = COMPOSITES, world: World | None = None, seed: int = 4) -> Path:
    """Draw ``count`` composites into ``folder/corpus``; shards that are there are left as they are."""
    target = folder / "corpus"
    target.mkdir(parents=True, exist_ok=True)
    for start in range(0, count, SHARD):
        file = target / f"{start // SHARD:05d}.tar"
        if not file.exists():
            world = world or load_world(folder)
            _shard(file, world, range(start, min(start + SHARD, count)), seed)
            print(f"corpus: {min(start + SHARD, count)} of {count}", flush=True)
    return target


def _shard(file: Path, world: World, rows: range, seed: int) -> None:
    partial = file.with_suffix(".partial")
    with webdataset.TarWriter(str(partial), mtime=0.0, user="", group="") as sink:
        for start in range(rows.start, rows.stop, DRAWN):
            rng = np.random.default_rng((seed, start))
            for i in range(start, min(start + DRAWN, rows.stop)):
                picture, caption = world.sample(rng)
                sink.write({"__key__": f"{i:06d}", "png": _png(picture), "txt": caption})
    partial.replace(file)


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
