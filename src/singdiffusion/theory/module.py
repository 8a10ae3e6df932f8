"""The embedded module against the theory: its output must not depend on x_1, and must be the mean of a prompt's real pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import tiny
from ..plugin import SingDiffusion
from ..plugin.vae import mean_latents

NOISES = 64


@dataclass(frozen=True)
class Fit:
    """One prompt.

    Attributes:
        prompt: what was asked for.
        over_noise: standard deviation of the output over x_1, relative to the norm of its mean: 0 for the exact minimiser.
        off_mean: distance of the output's mean from the mean latent of the prompt's real pictures, relative to the norm of that.
        off_grey: the same for the mean over each channel only, on which brightness depends.
        real: the real mean, decoded: (3, H, W) within 0..1.
        said: the module's, decoded.
    """

    prompt: str
    over_noise: float
    off_mean: float
    off_grey: float
    real: Tensor
    said: Tensor


@torch.no_grad()
def fits(known: dict[str, Tensor], generator: torch.Generator) -> list[Fit]:
    """Of every prompt with its real pictures, uint8 (M, 3, H, W), as ``tiny.pictures().known``."""
    pipe, sing = (
        tiny.load_pipeline(),
        SingDiffusion.from_pretrained("tiny-unet"),
    )  # the network that could hang on the noise
    scale = pipe.vae.config.scaling_factor
    made = []
    for prompt, pictures in known.items():
        latents = mean_latents(pictures.float() / 127.5 - 1, pipe.vae)
        x_1 = torch.randn(NOISES, *latents.shape[1:], generator=generator)
        said = sing.module.network.predict(x_1, sing.module.encode_prompt(prompt)[0].expand(NOISES, -1, -1))
        real, mean = latents.mean(0), said.mean(0)
        decoded = pipe.vae.decode(torch.stack([real, mean]) / scale).sample.div(2).add(0.5).clamp(0, 1)
        off = mean - real
        made.append(
            Fit(
                prompt,
                over_noise=float((said - mean).square().sum((1, 2, 3)).mean().sqrt() / mean.norm()),
                off_mean=float(off.norm() / real.norm()),
                off_grey=float(off.mean((1, 2)).norm() / real.mean((1, 2)).norm()),
                real=decoded[0],
                said=decoded[1],
            )
        )
    return made
