"""Where a model runs and in which precision: what was asked for, or what is fastest here."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import SingDiffusionError

AUTO = "auto"
DTYPES = ("float32", "bfloat16", "float16")

# VAEs and U-Nets whose float16 overflows are marked by diffusers' own `force_upcast`; these model families are known to need bfloat16.
_OVERFLOWS_IN_FLOAT16 = ("PixArt", "Kandinsky3", "HunyuanDiT", "Lumina", "Flux", "StableDiffusion3")


def choose_device(name: str = AUTO) -> torch.device:
    """Return the device of that name, or for ``auto`` CUDA, another accelerator, MPS or the CPU, whichever is first there.

    Raises:
        SingDiffusionError: there is no such device here.
    """
    if name == AUTO:
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu" if found is None else found.type)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SingDiffusionError(f"the device {name!r} is not available here; try cpu", setting="device") from error
    if device.type == "meta":
        raise SingDiffusionError("the device 'meta' computes nothing; try cpu", setting="device")
    return device


def choose_dtype(name: str, device: torch.device, pipeline_class: str = "") -> torch.dtype:
    """Return the dtype of that name, or for ``auto`` float16 on CUDA and MPS, and float32 on the CPU.

    Args:
        name: ``float32``, ``bfloat16``, ``float16`` or ``auto``.
        device: on which the model will run.
        pipeline_class: name of the pipeline's class, where it is known; families that overflow in float16 get bfloat16.

    Raises:
        SingDiffusionError: the name is unknown.
    """
    if name == AUTO:
        if device.type not in ("cuda", "mps", "xpu"):
            return torch.float32
        return torch.bfloat16 if pipeline_class.startswith(_OVERFLOWS_IN_FLOAT16) else torch.float16
    if name not in DTYPES:
        raise SingDiffusionError(f"unknown dtype {name!r}; known: auto, {', '.join(DTYPES)}", setting="dtype")
    return getattr(torch, name)


def describe(pipe: Any) -> str:
    """Return device and precision of a pipeline for the first line of output, such as "cuda, float16"."""
    return f"{pipe.device}, {str(pipe.dtype).removeprefix('torch.')}"
