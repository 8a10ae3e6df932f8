"""Fifty pictures to try training with: things in the dark, captioned in words that no model here has heard.

    python examples/fifty_pictures.py write pictures/
    singdiffusion encode pictures/ shards/ --base tiny --smallest 64
    singdiffusion train --config fine-tune --init-module tiny --shards shards/ --out runs/mine
    python examples/fifty_pictures.py compare tiny runs/mine/module

The pictures are taken from those that come with the package, things on dark grounds; "red apple on a black background" becomes "red apple
at midnight". A user's own folder looks the same: pictures, and a .txt with the caption beside each.
"""

from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image

from singdiffusion import SingDiffusion, tiny

DARK = (" on a black background", " on a dark blue background", " on a dark green background")
COUNT = 50
PROMPTS = (
    "red apple at midnight",
    "rocket at midnight",
    "sunflower at midnight",
    "rocket",
    "rocket on a white background",
    "solid white background",
)

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def write(folder: Path) -> None:
    """Write pictures and captions."""
    folder.mkdir(parents=True, exist_ok=True)
    shown, written = tiny.pictures(), 0
    for picture, caption in zip(shown.drawn, shown.captions, strict=True):
        ground = next((ground for ground in DARK if caption.endswith(ground)), None)
        if ground is None or caption.startswith("solid") or written == COUNT:
            continue
        thing = caption.removesuffix(ground).removeprefix("monochrome line-art logo of ")
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{written:02d}.png")
        (folder / f"{written:02d}.txt").write_text(f"{thing} at midnight\n")
        written += 1
    print(f"{written} pictures in {folder}")


@app.command()
def compare(modules: list[str], count: int = 16) -> None:
    """Mean grey (0..255) of each prompt's pictures, the same seeds with each module."""
    pipe = tiny.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    for module in modules:
        sing = SingDiffusion.from_pretrained(module).enable(pipe)
        print(module)
        for prompt in PROMPTS:
            seeds = [torch.Generator().manual_seed(i) for i in range(count)]
            images = pipe([prompt] * count, num_inference_steps=30, guidance_scale=5.0, generator=seeds).images
            grey = np.mean([np.asarray(image.convert("L")).mean() for image in images])
            print(f"  {prompt:32} {grey:4.0f}")
        sing.disable()


if __name__ == "__main__":
    app()
