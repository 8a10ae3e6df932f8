"""Sizes that fit a pipeline."""

from __future__ import annotations

from typing import Any

from ..errors import SingDiffusionError


def own_size(pipe: Any) -> tuple[int, int]:
    """Return height and width, pixels, of the pictures that a pipeline paints by default.

    Raises:
        SingDiffusionError: the pipeline has no U-Net or transformer, or no VAE.
    """
    own = _denoiser(pipe).sample_size
    rows, columns = own if isinstance(own, list | tuple) else (own, own)
    return rows * pipe.vae_scale_factor, columns * pipe.vae_scale_factor


def whole_size(pipe: Any, height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """Return height and width with the pipeline's own for the one that is None, because diffusers ignores one without the other."""
    if height is None and width is None:
        return None, None
    own_height, own_width = own_size(pipe)
    return own_height if height is None else height, own_width if width is None else width


def check_size(pipe: Any, height: int | None, width: int | None) -> None:
    """Check that height and width are multiples of what the VAE and the denoiser halve, or cut into patches.

    Raises:
        SingDiffusionError: one does not fit; the message names the nearest that does.
    """
    config = _denoiser(pipe)
    halvings = len(config.get("block_out_channels") or ()) - 1
    unit = pipe.vae_scale_factor * (2**halvings if halvings >= 0 else config.get("patch_size") or 1)
    for name, value in (("height", height), ("width", width)):
        if value is not None and (value <= 0 or value % unit):
            near = max(unit, round(value / unit) * unit)
            raise SingDiffusionError(
                f"{name} must be a positive multiple of {unit} for this model, not {value}; try {near}", setting=name
            )


def _denoiser(pipe: Any) -> Any:
    """Return the configuration of a pipeline's U-Net or transformer."""
    found = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    if found is None or not hasattr(pipe, "vae_scale_factor"):
        raise SingDiffusionError(f"a {type(pipe).__name__} does not paint from a prompt alone", setting="model")
    return found.config
