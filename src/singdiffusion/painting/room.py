"""Whether the memory suffices for pictures of a size, before any of it is taken."""

from __future__ import annotations

from typing import Any

import torch

from ..memory import require_memory
from .sizes import own_size


def least_memory(pipe: Any, pictures: int, height: int, width: int) -> int:
    """Return bytes on the pipeline's device that painting takes at the least, in addition to the weights.

    The largest part of one picture is decoding it: the VAE's last upsampling holds what goes in and what comes out, at the picture's full
    size. Then come the skip connections of the U-Net's first level. Attention is not counted: torch computes it in parts. A VAE that
    decodes in tiles, or one picture at a time, is counted so. What painting really takes is up to a few times as much.

    Args:
        pipe: a diffusers pipeline.
        pictures: painted in one call.
        height, width: pixels.
    """
    vae, pixels = pipe.vae, height * width
    decoded = 0 if getattr(vae, "use_tiling", False) else _decoding(vae) * pixels
    at_once = 1 if getattr(vae, "use_slicing", False) else pictures
    denoised = _denoising(getattr(pipe, "unet", None)) * pixels // pipe.vae_scale_factor**2
    return max(decoded * at_once, denoised * pictures) + 3 * vae.dtype.itemsize * pixels * pictures


def require_room(pipe: Any, pictures: int, height: int | None, width: int | None, setting: str | None = None) -> None:
    """Check that the memory suffices for painting.

    Args:
        pictures: painted in one call.
        height, width: pixels; None: the pipeline's own.
        setting: to change where it does not suffice; None: ``height`` for one picture, ``batch`` for several.

    Raises:
        SingDiffusionError: it does not suffice, on the pipeline's device or for the pictures themselves.
    """
    if getattr(pipe, "vae", None) is None:
        return
    own_height, own_width = own_size(pipe)
    height, width = height or own_height, width or own_width
    needed, finished = least_memory(pipe, pictures, height, width), 3 * (4 + 4 + 1) * height * width * pictures
    one = f"of {height} x {width} pixels"
    what = f"a picture {one}" if pictures == 1 else f"a batch of {pictures} pictures {one}"
    setting = setting or ("height" if pictures == 1 else "batch")
    if pipe.device.type == "cuda":
        require_memory(needed, f"{what} on {pipe.device}", setting, _free_on(pipe.device))
        needed = 0
    require_memory(needed + finished, what, setting)


def _decoding(vae: Any) -> int:
    """Return bytes per pixel of the last upsampling of a VAE; 0 where its kind is not known."""
    config = vae.config
    channels, blocks = config.get("block_out_channels") or (), config.get("up_block_types") or ()
    if len(channels) < 2 or set(blocks) != {"UpDecoderBlock2D"}:
        return 0
    return 2 * channels[1] * vae.dtype.itemsize


def _denoising(unet: Any) -> int:
    """Return bytes per latent's pixel of what the first level of a U-Net keeps for its last; 0 where its kind is not known."""
    channels = () if unet is None else unet.config.get("block_out_channels") or ()
    layers = 0 if unet is None else unet.config.get("layers_per_block")
    if not channels or not isinstance(layers, int):
        return 0
    return (layers + 1) * channels[0] * unet.dtype.itemsize


def _free_on(device: torch.device) -> int:
    """Return bytes of a GPU that this process may still take, with those that torch keeps for later use."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
