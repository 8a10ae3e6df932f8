"""What people choose for a pipeline, on the command line and on the page: a scheduler by its name, a size that fits.

Apart from ``plugin``, since a command's help must not wait for torch.
"""

from __future__ import annotations

from typing import Any

from .errors import SingDiffusionError

# The names people use -> diffusers' classes; the class names themselves are taken too.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "pndm": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "kdpm2": "KDPM2DiscreteScheduler",
    "kdpm2-ancestral": "KDPM2AncestralDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-single": "DPMSolverSinglestepScheduler",
    "dpm++-sde": "DPMSolverSDEScheduler",
    "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler",
    "sa-solver": "SASolverScheduler",
    "lcm": "LCMScheduler",
    "tcd": "TCDScheduler",
}


def scheduler_class(name: str) -> str:
    """The class that a scheduler's name stands for."""
    class_name = SCHEDULERS.get(name.lower(), name)
    if class_name not in SCHEDULERS.values():
        raise SingDiffusionError(f"unknown scheduler {name!r}; known: {', '.join(SCHEDULERS)}")
    return class_name


def set_scheduler(pipe: Any, name: str) -> None:
    """Give the pipeline another scheduler, made from its own one's configuration."""
    import diffusers

    class_name = scheduler_class(name)
    try:
        pipe.scheduler = getattr(diffusers, class_name).from_config(pipe.scheduler.config)
    except ImportError as error:  # DPMSolverSDEScheduler needs torchsde
        line = " ".join(str(error).split())
        raise SingDiffusionError(f"the scheduler {name} needs a package that is not installed: {line[:200]}") from error


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
