"""The embedded U-Net module against the theory: its output must not depend on x_1, and must be the mean of a prompt's pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import tiny
from ..modules import SingModule
from ..plugin.vae import mean_latents

NOISES = 64  # x_1 per prompt


@dataclass(frozen=True)
class Fit:
    """The module's output for one prompt.

    Attributes:
        prompt: text.
        over_noise: standard deviation of the output over x_1, relative to the norm of its mean; 0 for the exact minimiser.
        off_mean: distance of the output's mean from the mean latent of the prompt's real pictures, relative to the latter's norm.
        off_grey: the same for the means of the channels only, on which brightness depends.
        real: decoded mean latent of the real pictures, shape (3, H, W), within 0..1.
        predicted: decoded mean of the output, likewise.
    """

    prompt: str
    over_noise: float
    off_mean: float
    off_grey: float
    real: Tensor
    predicted: Tensor


@torch.no_grad()
def fits(known: dict[str, Tensor], generator: torch.Generator) -> list[Fit]:
    """Return the module's output for every prompt.

    Args:
        known: prompt -> its real pictures, uint8 of shape (M, 3, H, W), as ``tiny.pictures().known``.
        generator: of the noises.
    """
    pipe = tiny.load_pipeline()
    module = SingModule.from_pretrained("tiny-unet")  # the decoder has no noise input, so there is nothing to check
    scale = pipe.vae.config.scaling_factor
    results = []
    for prompt, pictures in known.items():
        latents = mean_latents(pictures.float() / 127.5 - 1, pipe.vae)
        x_1 = torch.randn(NOISES, *latents.shape[1:], generator=generator)
        output = module.network.predict(x_1, module.encode_prompt(prompt)[0].expand(NOISES, -1, -1))
        real, mean = latents.mean(0), output.mean(0)
        decoded = pipe.vae.decode(torch.stack([real, mean]) / scale).sample.div(2).add(0.5).clamp(0, 1)
        off = mean - real
        results.append(
            Fit(
                prompt,
                over_noise=float((output - mean).square().sum((1, 2, 3)).mean().sqrt() / mean.norm()),
                off_mean=float(off.norm() / real.norm()),
                off_grey=float(off.mean((1, 2)).norm() / real.mean((1, 2)).norm()),
                real=decoded[0],
                predicted=decoded[1],
            )
        )
    return results
