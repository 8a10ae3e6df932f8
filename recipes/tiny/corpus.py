"""The training pictures with their captions in .tar shards, as img2dataset writes them, for ``singdiffusion encode``."""

import io
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from .base import COMPOSITES
from .pictures import PER_SEED, World, load_world

SHARD = 4000  # pictures per shard


def write(folder: Path, count: int = COMPOSITES, world: World | None = None, seed: int = 4) -> Path:
    """Draw pictures into ``folder/corpus`` and return that folder; shards that exist stay as they are.

    With the default seed these are the pictures whose latents ``base.make_latents`` stores.
    """
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
        for start in range(rows.start, rows.stop, PER_SEED):
            rng = np.random.default_rng((seed, start))
            for i in range(start, min(start + PER_SEED, rows.stop)):
                picture, caption = world.sample(rng)
                sink.write({"__key__": f"{i:06d}", "png": _png(picture), "txt": caption})
    partial.replace(file)


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
