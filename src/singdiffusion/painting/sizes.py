"""Sizes that fit a pipeline."""

from __future__ import annotations

from typing import Any

from ..errors import SingDiffusionError


def own_size(pipe: Any) -> tuple[int, int]:
    """Height and width, pixels, that a pipeline paints when it is told none."""
    own = _denoiser(pipe).sample_size
    rows, columns = own if isinstance(own, list | tuple) else (own, own)
    return rows * pipe.vae_scale_factor, columns * pipe.vae_scale_factor


def whole_size(pipe: Any, height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """Where one side is given, both: diffusers' pipelines pass over one that comes without the other."""
    if height is None and width is None:
        return None, None
    own_height, own_width = own_size(pipe)
    return own_height if height is None else height, own_width if width is None else width


def check_size(pipe: Any, height: int | None, width: int | None) -> None:
    """Height and width must be multiples of what the VAE and the denoiser halve, or cut into patches."""
    config = _denoiser(pipe)
    halvings = len(config.get("block_out_channels") or ()) - 1
    unit = pipe.vae_scale_factor * (2**halvings if halvings >= 0 else config.get("patch_size") or 1)
    for name, value in (("height", height), ("width", width)):
        if value is not None and (value <= 0 or value % unit):
            near = max(unit, round(value / unit) * unit)
            raise SingDiffusionError(
                f"{name} must be a positive multiple of {unit} for this model, not {value}; try {near}"
            )


def _denoiser(pipe: Any) -> Any:
    return (getattr(pipe, "unet", None) or pipe.transformer).config
