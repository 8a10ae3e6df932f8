"""Pictures as latents, through a pipeline's own autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .color import Color


@torch.no_grad()
def flat_latents(color: Color, autoencoder: Any, like: Tensor, scaled: bool = True) -> Tensor:
    """Return the latent of a picture of one colour.

    Args:
        color: red, green, blue, 0..255.
        autoencoder: AutoencoderKL or VQModel.
        like: latents (B, C, H, W) whose shape and device the result has.
        scaled: whether the pipeline's latents are (raw - shift) * scaling, as most are; otherwise they are raw.

    Returns:
        float32 (B, C, H, W).
    """
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    pixels = torch.tensor(color, dtype=torch.float32).div(127.5).sub(1).reshape(1, 3, 1, 1)
    pixels = pixels.expand(1, 3, like.shape[-2] * factor, like.shape[-1] * factor)
    return mean_latents(pixels.to(like.device), autoencoder, scaled).expand_as(like)


@torch.no_grad()
def mean_latents(pixels: Tensor, autoencoder: Any, scaled: bool = True) -> Tensor:
    """Return the means of the latents of pictures.

    Args:
        pixels: float32 (B, 3, H, W) in -1..1.
        autoencoder: AutoencoderKL or VQModel.
        scaled: whether the pipeline's latents are (raw - shift) * scaling, as most are; otherwise they are raw.

    Returns:
        float32 (B, C, h, w), on the device of ``pixels``.
    """
    config, parameter = autoencoder.config, next(autoencoder.parameters())
    # float16 overflows in some autoencoders (SDXL's); their configuration has force_upcast
    upcast = parameter.dtype == torch.float16 and config.get("force_upcast", False)
    dtype = torch.float32 if upcast else parameter.dtype
    # offloaded weights are on the meta device until a hook moves them
    device = pixels.device if parameter.device.type == "meta" else parameter.device
    if upcast:
        autoencoder.to(dtype=torch.float32)
    try:
        encoded = autoencoder.encode(pixels.to(device, dtype))
    finally:
        if upcast:
            autoencoder.to(dtype=torch.float16)
    latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    latent = latent.to(pixels.device).float()
    if scaled:
        latent = (latent - (config.get("shift_factor") or 0.0)) * config.scaling_factor
    return latent
