"""How a module should read a prompt in several chunks: ``python -m benchmarks.chunks``.

Captions of the embedded world are cut in two at a word, each half is encoded as a chunk of its own, and the mean luma of the decoded
prediction is compared with that of the whole caption in one chunk. The last row puts the whole caption beside an empty chunk.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from singdiffusion import SingModule, tiny
from singdiffusion.modules.chunks import weights_of

CAPTIONS = 120
CUTS = {"after a quarter of the words": 0.25, "in the middle": 0.5, "after three quarters": 0.75}


def captions() -> list[str]:
    """Return captions that name their background, in a fixed random order."""
    groups = tiny.captions()
    found = [*groups["stated"], *groups["new"]]
    random.Random(0).shuffle(found)
    return found[:CAPTIONS]


@torch.no_grad()
def errors(name: str) -> list[tuple[str, list[float]]]:
    """Return, per cut, the mean absolute error of mean luma (0..255) by: all rows at once, first chunk, average, weighted average."""
    module, vae, texts = SingModule.from_pretrained(name), tiny.load_pipeline().vae, captions()
    assert module.text is not None
    x_1 = torch.randn(len(texts), 4, 16, 16, generator=torch.Generator().manual_seed(0))
    rec601 = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)

    def predict(rows: Tensor) -> Tensor:
        return module.network.predict(x_1, rows.expand(len(texts), -1, -1))

    def luma(y: Tensor) -> Tensor:
        pixels = vae.decode(y / vae.config.scaling_factor).sample.clamp(-1, 1)
        return (pixels * rec601).sum(1).mean((1, 2)) * 127.5 + 127.5

    whole, empty = module.text.encode(texts), module.text.encode([""]).expand(len(texts), -1, -1)
    right, of_empty = luma(predict(whole)), predict(empty)
    rows = []
    for title, share in [*CUTS.items(), ("whole, and an empty chunk", 1.0)]:
        words = [text.split() for text in texts]
        at = [max(1, int(share * len(each))) for each in words]
        pair = [
            module.text.encode([" ".join(each[:n]) for each, n in zip(words, at, strict=True)]),
            module.text.encode([" ".join(each[n:]) for each, n in zip(words, at, strict=True)]),
        ]
        y = torch.stack([predict(each) for each in pair], 1)
        weights = weights_of(y, torch.ones(y.shape[:2], dtype=torch.bool), of_empty)
        ways = [predict(torch.cat(pair, 1)), y[:, 0], y.mean(1), torch.einsum("bn,bnchw->bchw", weights, y)]
        rows.append((title, [float((luma(each) - right).abs().mean()) for each in ways]))
    return rows


def main() -> None:
    """Print the table of docs/stable-diffusion.md."""
    print("| module | cut | all rows at once | first chunk | average | weighted average |\n|---|---|---|---|---|---|")
    for name in ("tiny", "tiny-unet"):
        for title, found in errors(name):
            print(f"| `{name}` | {title} | " + " | ".join(f"{value:.1f}" for value in found) + " |")


if __name__ == "__main__":
    main()
