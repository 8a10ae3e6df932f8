"""Measure the time and memory of the first step; every figure is a ratio or a difference in one run.

    make bench-step           or: python benchmarks/step.py --json build/bench-step.json     (four minutes on two cores)

At the size of Stable Diffusion 1.5 (random weights, bfloat16, latents of 64 x 64, 77 tokens) three first steps are compared:

- ``published``: two passes of the full time-free U-Net, one after the other.
- ``batched``: ours with the same U-Net, one pass.
- ``decoder``: ours with a ``MeanDecoder`` in float32, mean and covariance.

Times are relative to one guided step of the base's U-Net; all are measured in turn, several times. Extra memory is the
difference between the peaks of two processes, with and without the first step. On the embedded model whole pictures are
timed, without and with each module.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from singdiffusion import MeanDecoder, SingDiffusion, TimeFreeUNet, tiny
from singdiffusion.core.singular import first_step, guided_mean
from singdiffusion.files import write_whole
from singdiffusion.modules import SingConfig, SingModule

ALPHA, SIGMA, GUIDANCE = 0.0760, 0.9971, 7.5  # alpha and sigma of t = 981
SD15: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
CONFIG = SingConfig(latent_channels=4, vae_scaling_factor=0.18215, text_width=768)
FIRST_STEPS = ("published", "batched", "decoder")


def made(kind: Any, *args: Any, **options: Any) -> Any:
    """Return a network in bfloat16 with small random weights; its own initialisation would take minutes."""
    with torch.device("meta"):
        network = kind(*args, **options)
    network = network.to(torch.bfloat16).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.normal_(0, 0.02)
    return network.eval().requires_grad_(False)


def text_config() -> CLIPTextConfig:
    """Return the configuration of Stable Diffusion 1.5's text encoder."""
    return CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
    )


def vae() -> AutoencoderKL:
    """Return an autoencoder of Stable Diffusion 1.5's size."""
    return made(
        AutoencoderKL,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )


def sing_module(name: str) -> SingModule:
    """Return the module of a first step."""
    if name == "decoder":
        torch.manual_seed(0)
        return SingModule(MeanDecoder.preset("sd15", covariance_grid=4).eval().requires_grad_(False), CONFIG)
    return SingModule(made(TimeFreeUNet, **SD15), CONFIG)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Return x_1 and the embeddings of a prompt and a negative prompt."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(1, 4, 64, 64), draw(1, 77, 768).bfloat16(), draw(1, 77, 768).bfloat16()


@torch.no_grad()
def base_step(unet: nn.Module) -> None:
    """Do one guided step of the base, prompt and negative prompt in one batch, as in diffusers."""
    x_1, positive, negative = inputs()
    unet(torch.cat([x_1, x_1]).bfloat16(), torch.tensor(981), encoder_hidden_states=torch.cat([negative, positive]))


@torch.no_grad()
def take(name: str, module: SingModule) -> Tensor:
    """Do a first step; return the state at t = 981, shape (1, 4, 64, 64)."""
    x_1, positive, negative = inputs()
    if name == "published":
        y_neg, y_pos = (module.network.predict(x_1.bfloat16(), text).float() for text in (negative, positive))
        return first_step(guided_mean(y_neg, y_pos, GUIDANCE), x_1, ALPHA, SIGMA)
    mean, covariance = module.guided_moments(x_1, positive, negative, GUIDANCE)
    return first_step(mean, x_1, ALPHA, SIGMA, covariance)


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def at_size(rounds: int) -> dict[str, float]:
    """Return times over that of a guided base step, medians over rounds; every round does everything once."""
    unet = made(UNet2DConditionModel, **SD15)
    full, small = sing_module("published"), sing_module("decoder")
    work: dict[str, Callable[[], Any]] = {
        "base": lambda: base_step(unet),
        "published": lambda: take("published", full),
        "batched": lambda: take("batched", full),
        "decoder": lambda: take("decoder", small),
    }
    found: dict[str, list[float]] = {name: [] for name in work}
    for index in range(rounds + 1):
        for name, do in work.items():
            took = seconds(do)
            if index:  # the first round is warm-up
                found[name].append(took)
    ratios = {
        f"{name}_over_base_step": statistics.median(found[name]) / statistics.median(found["base"])
        for name in FIRST_STEPS
    }
    return ratios | {
        "published_over_decoder": statistics.median(found["published"]) / statistics.median(found["decoder"]),
        "decoder_parameters": sum(p.numel() for p in small.network.parameters()),
        "base_step_seconds": statistics.median(found["base"]),
        "decoder_seconds": statistics.median(found["decoder"]),
    }


def peak(name: str) -> float:
    """Return the peak memory of this process in MiB: the base is loaded and does one step, after a first step if one is named."""
    base = made(UNet2DConditionModel, **SD15), made(CLIPTextModel, text_config()), vae()
    module = None if name == "base" else sing_module(name)  # stays in memory beside the base, as in a pipeline
    if module is not None:
        take(name, module)
    base_step(base[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def extra_mib(name: str) -> float:
    """Return the peak memory with a first step minus that without, in MiB, each in its own process."""
    peaks = {}
    for each in ("base", name):
        command = [sys.executable, __file__, "--peak", each]
        peaks[each] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    return peaks[name] - peaks["base"]


def pictures(pairs: int) -> dict[str, float]:
    """Return times of an embedded picture off and on, in seconds, and on over off; medians over pairs.

    Args:
        pairs: number of pictures, each painted off and on in turn.
    """
    pipe = tiny.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    found: dict[str, float] = {}

    def paint(steps: int, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return seconds(lambda: pipe("red apple on a black background", num_inference_steps=steps, generator=generator))

    for name in ("tiny-unet", "tiny-decoder"):
        on = SingDiffusion.from_pretrained(name).enable(pipe)
        for steps in (10, 50):
            ratios, offs, ons = [], [], []
            for pair in range(pairs + 1):
                took = {}
                for enabled in (pair % 2 == 0, pair % 2 == 1):
                    if enabled:
                        took[True] = paint(steps, pair)
                    else:
                        with on.disabled():
                            took[False] = paint(steps, pair)
                if pair:
                    ratios.append(took[True] / took[False])
                    offs.append(took[False])
                    ons.append(took[True])
            key = f"{name.removeprefix('tiny-')}_{steps}_steps"
            found[f"{key}_on_over_off"] = statistics.median(ratios)
            found[f"{key}_off_seconds"], found[f"{key}_on_seconds"] = statistics.median(offs), statistics.median(ons)
        on.disable()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="rounds at the size of Stable Diffusion 1.5")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of pictures by the embedded model")
    parser.add_argument("--embedded-only", action="store_true", help="time only pictures by the embedded model")
    parser.add_argument("--json", type=Path, default=Path("build/bench-step.json"))
    parser.add_argument("--peak", choices=("base", "published", "decoder"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak(options.peak))
        return
    figures: dict[str, float] = {}
    if not options.embedded_only:
        # Memory first, while this process is small: on Linux a child's peak is at least the memory of its parent at its start.
        figures |= {f"{name}_extra_mib": extra_mib(name) for name in ("published", "decoder")}
        figures |= at_size(options.rounds)
    figures |= pictures(options.pairs) | {"pairs": options.pairs}
    for key, value in figures.items():
        print(f"{key:40s} {value:.5g}")
    write_whole(options.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
