"""What people choose for a pipeline, on the command line and on the page: a scheduler by its name, a size that fits.

Apart from ``plugin``, since a command's help must not wait for torch.
"""

from __future__ import annotations

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
