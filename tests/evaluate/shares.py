"""Fidelity, brightness and text score of the same pictures by one process or several.

``python -m tests.evaluate.shares FOLDER`` writes RANKofCOUNT.json; FOLDER must contain a CLIP model, ``clip``.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed

from singdiffusion.evaluate.metrics.brightness import Lumas
from singdiffusion.evaluate.metrics.crowd import Crowd
from singdiffusion.evaluate.metrics.fidelity import compare
from singdiffusion.evaluate.metrics.text_score import PictureTextScore


class Blocks(torch.nn.Module):
    """Twelve features: the means of four quarters of each channel."""

    name, num_features, protocol = "blocks", 12, "not resized"

    def forward(self, pictures):
        return torch.nn.functional.adaptive_avg_pool2d(pictures.double(), 2).flatten(1)


def draw(count, low, high, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)


def main():
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if count > 1:
        torch.distributed.init_process_group("gloo")
    real, generated, lumas = Crowd(Blocks(), which="real"), Crowd(Blocks(), kept=300), Lumas()
    for pictures in draw(500, 0, 200, 0).split(3)[rank::count]:
        real.see(pictures)
    share = draw(400, 50, 256, 1).split(150)  # of unequal sizes
    for pictures in share[rank::count]:
        generated.see(pictures)
        lumas.see(pictures)
    some = Crowd(Blocks(), kept=5)  # the last of two processes sees none
    if rank == 0:
        some.see(draw(20, 0, 256, 2))
    score = PictureTextScore(Path(sys.argv[1], "clip"))
    captions = ["bell", "solid black background", "a red apple " * 20]
    for caption, pictures in list(zip(captions, draw(6, 0, 256, 3).split(2), strict=True))[rank::count]:
        score.see(pictures, [caption] * 2)
    found = compare(real.statistics(), generated.statistics()).as_json()
    found |= {"lumas": lumas.values().tolist(), "some": some.statistics().mean.tolist()}
    found |= {f"text {key}": value for key, value in score.compute().as_json().items()}
    Path(sys.argv[1], f"{rank}of{count}.json").write_text(json.dumps(found))
    if count > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
