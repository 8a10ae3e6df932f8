"""Compare designs of the decoder, trained on the same pictures in the same order.

    python benchmarks/designs.py --json build/designs.json     (25 minutes on one thread)

It needs ``build/tiny/shards``; the preset ``tiny-decoder`` names the commands that write them.

Every design predicts the 16 x 16 lowest frequencies of E[x_0 | prompt] from the embedded base's prompt embeddings, by squared
error, with the preset's own schedule. A run that was stopped resumes. Figures are of 2,048 held-out pictures.

Speed is measured afterwards, a few steps of each design in turn, together with the paper's network as it is trained (bfloat16,
channels last).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from singdiffusion import MeanDecoder
from singdiffusion.core.dct import low_frequencies
from singdiffusion.files import write_whole
from singdiffusion.train.config import load_config
from singdiffusion.train.loop import Trainer

CHANNELS = 4


class LastToken(MeanDecoder):
    """Our decoder without the mean over tokens: only the last embedding, which a causal text encoder computes from all of them."""

    def features(self, prompt_embeds: Tensor) -> Tensor:
        return self.text_in(prompt_embeds[:, -1].repeat(1, 2))


class Pooled(MeanDecoder):
    """Our decoder with attention in place of the mean: one learned query per head attends to every token."""

    def __init__(
        self,
        latent_channels: int = CHANNELS,
        cross_attention_dim: int = 128,
        grid: int = 16,
        covariance_grid: int = 0,
        width: int = 512,
        layers: int = 2,
        heads: int = 4,
    ):
        super().__init__(latent_channels, cross_attention_dim, grid, covariance_grid, width, layers)
        size = width // 2
        self.heads = heads
        self.queries = nn.Parameter(torch.randn(heads, 1, size // heads) / math.sqrt(size // heads))
        self.norm = nn.LayerNorm(cross_attention_dim)
        self.key_in, self.value_in = (nn.Linear(cross_attention_dim, size) for _ in range(2))
        self.text_in = nn.Linear(size, width)

    def features(self, prompt_embeds: Tensor) -> Tensor:
        text = self.norm(prompt_embeds)
        keys, values = (
            layer(text).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.key_in, self.value_in)
        )
        queries = self.queries.expand(len(text), -1, -1, -1)
        return self.text_in(nn.functional.scaled_dot_product_attention(queries, keys, values).flatten(1))


class Patches(MeanDecoder):
    """A transformer: learned queries attend to the prompt and to each other, and each predicts a patch of a coarse picture."""

    def __init__(
        self,
        latent_channels: int = CHANNELS,
        cross_attention_dim: int = 128,
        grid: int = 16,
        covariance_grid: int = 0,
        width: int = 128,
        layers: int = 3,
        heads: int = 4,
        patch: int = 4,
    ):
        super().__init__(latent_channels, cross_attention_dim, grid, covariance_grid, width, layers)
        self.patch, self.grid = patch, grid
        self.queries = nn.Parameter(torch.randn((grid // patch) ** 2, width) / math.sqrt(width))
        self.text_in = nn.Sequential(
            nn.LayerNorm(cross_attention_dim), nn.Linear(cross_attention_dim, width), nn.LayerNorm(width)
        )
        self.blocks = nn.ModuleList(
            BasicTransformerBlock(width, heads, width // heads, cross_attention_dim=width) for _ in range(layers)
        )
        self.mean_out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent_channels * patch * patch))
        nn.init.zeros_(self.mean_out[1].weight)
        nn.init.zeros_(self.mean_out[1].bias)

    def forward(self, prompt_embeds: Tensor) -> tuple[Tensor, None]:
        text, patch, grid = self.text_in(prompt_embeds), self.patch, self.grid
        hidden = self.queries.expand(len(text), -1, -1)
        for block in self.blocks:
            hidden = block(hidden, encoder_hidden_states=text)
        n = grid // patch
        parts = self.mean_out(hidden).float().reshape(-1, n, n, CHANNELS, patch, patch)
        cells = parts.permute(0, 3, 1, 4, 2, 5).reshape(-1, CHANNELS, grid, grid)
        return low_frequencies(cells, grid) / grid, None


PAPER = "the paper's U-Net"
DESIGNS: dict[str, tuple[type[MeanDecoder], dict[str, Any]]] = {
    "perceptron (ours)": (MeanDecoder, {"width": 512, "layers": 2}),
    "perceptron, last token only": (LastToken, {"width": 512, "layers": 2}),
    "perceptron behind attention": (Pooled, {"width": 512, "layers": 2}),
    "transformer, 4 x 4 cells per query, on an 8 x 8 grid": (
        Patches,
        {"grid": 8, "patch": 4, "width": 128, "layers": 2},
    ),
    "transformer, 4 x 4 cells per query": (Patches, {"patch": 4, "width": 128, "layers": 3}),
}


def trainer(name: str, out: Path, *changes: str) -> Trainer:
    """Return a training run of a design, or of the paper's network.

    Args:
        name: of ``DESIGNS``, or ``PAPER``.
        out: folder of all runs.
        changes: of the preset's configuration.
    """
    folder = out / "".join(c if c.isalnum() else "-" for c in name)
    changed = [f"out={json.dumps(str(folder))}", "validation.prompts=[]", "bring_text=false", *changes]
    if name == PAPER:
        return Trainer(load_config("tiny-unet", changed), print, cpu=True)
    kind, options = DESIGNS[name]
    config = load_config("tiny-decoder", ["loss=sample", *changed])
    config = config.model_copy(update={"network": config.network.model_copy(update={"options": options})})

    class Run(Trainer):
        decoder = kind

        def export(self) -> Path:  # no files are needed
            return self.out

    return Run(config, print, cpu=True)


def train(name: str, out: Path, steps: int) -> dict[str, float]:
    """Train a design; return its size, its cost and its figures on held-out pictures."""
    made = trainer(name, out, f"steps={steps}")
    network = made.accelerator.unwrap_model(made.model).network
    still = copy.deepcopy(network).requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        still(torch.zeros(1, made.data.manifest["base"]["tokens"][0], network.config["cross_attention_dim"]))
    figures = made.run()
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "forward_mflop": counter.get_total_flops() / 1e6,
        **{key: figures[key] for key in ("loss", "excess", "excess_error", "channel_mean_excess")},
    }


def speeds(rounds: int, steps: int) -> dict[str, float]:
    """Return pictures per second in training, medians over steps and rounds; all designs are measured in turn."""
    found: dict[str, list[float]] = {name: [] for name in (*DESIGNS, PAPER)}
    for _ in range(rounds):
        for name, each in found.items():
            AcceleratorState._reset_state(reset_partial_state=True)  # otherwise the precision of the first run stays
            with tempfile.TemporaryDirectory() as scratch:
                made = trainer(
                    name, Path(scratch), f"steps={steps}", "data.held_out=0", "log.every=1", "log.trackers=[]"
                )
                made.run()
                rows = [json.loads(line) for line in (made.out / "log.jsonl").read_text().splitlines()]
            each += [row["pictures_per_second"] for row in rows[steps // 3 :]]  # the first third is warm-up
    return {name: statistics.median(each) for name, each in found.items() if each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000, help="training steps of each design")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which speed is measured; 0: none")
    parser.add_argument("--out", type=Path, default=Path("build/designs"))
    parser.add_argument("--json", type=Path, default=Path("build/designs.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = {name: train(name, options.out, options.steps) for name in DESIGNS}
    for name, speed in speeds(options.rounds, steps=30).items():
        figures.setdefault(name, {})["pictures_per_second"] = speed
    for name, of in figures.items():
        print(name, {key: round(value, 4) for key, value in of.items()})
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
