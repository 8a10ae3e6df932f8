"""Device and precision of a model: as asked for, or with ``auto`` the fastest that gives correct pictures here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..compat import accelerator
from ..errors import SingDiffusionError

AUTO = "auto"
DTYPES = ("float32", "bfloat16", "float16")
HALF_PRECISION = ("cuda", "mps", "xpu")  # device types that are faster in half precision than in float32


def choose_device(name: str | torch.device = AUTO) -> torch.device:
    """Return the device of that name, or for ``auto`` CUDA, another accelerator, MPS or the CPU, whichever is first there.

    Raises:
        SingDiffusionError: there is no such device here.
    """
    if name == AUTO:
        return torch.device(accelerator())
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # torch also has names of devices whose packages are missing, and fails in several ways
        raise SingDiffusionError(
            f"the device {str(name)!r} is not available here; try cpu", setting="device"
        ) from error
    if device.type == "meta":
        raise SingDiffusionError("the device 'meta' computes nothing; try cpu", setting="device")
    return device


def choose_dtype(
    name: str | torch.dtype, device: torch.device, components: Mapping[str, str] | None = None
) -> torch.dtype:
    """Return the dtype of that name, or for ``auto`` the fastest one in which the model does not overflow.

    ``auto`` is float32 on the CPU. On a GPU it is float16; for models that overflow in it bfloat16, or float32 on a GPU that has
    no bfloat16.

    Args:
        name: ``auto``, ``float32``, ``bfloat16``, ``float16``, or a torch dtype.
        device: on which the model will run.
        components: name -> class name of a pipeline's parts, as in its model_index.json; none: like Stable Diffusion.

    Raises:
        SingDiffusionError: the name is unknown.
    """
    if isinstance(name, torch.dtype):
        return name
    if name == AUTO:
        if device.type not in HALF_PRECISION:
            return torch.float32
        if not overflows_in_float16(components or {}):
            return torch.float16
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise SingDiffusionError(f"unknown dtype {name!r}; known: auto, {', '.join(DTYPES)}", setting="torch_dtype")
    return getattr(torch, name)


def overflows_in_float16(components: Mapping[str, str]) -> bool:
    """Whether a pipeline of these parts may exceed 65504, the largest number of float16.

    U-Nets with CLIP text encoders (Stable Diffusion 1, 2 and XL and what builds on them) are trained and published in float16.
    T5 and larger language models, and most diffusion transformers, are trained in bfloat16, with larger activations. A VAE does
    not count: diffusers decodes with it in float32 where its configuration has ``force_upcast``.
    """
    return any(
        name.startswith("transformer") or (name.startswith("text_encoder") and not kind.startswith("CLIP"))
        for name, kind in components.items()
    )


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself; CUDA before Ampere only emulates it, which is slower than float32."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def encoding_dtype(dtype: torch.dtype, vae: Any) -> torch.dtype:
    """Return the dtype in which a VAE encodes without overflow: float32 in place of float16 where it has ``force_upcast``."""
    return torch.float32 if dtype == torch.float16 and vae.config.get("force_upcast", True) else dtype


def differs_from_auto(pipe: Any) -> dict[str, str]:
    """Return a pipeline's ``torch_dtype`` and ``device``, of these two the ones that ``auto`` would not choose here."""
    components = {name: type(part).__name__ for name, part in pipe.components.items()}
    auto = {"torch_dtype": choose_dtype(AUTO, pipe.device, components), "device": choose_device().type}
    own = {"torch_dtype": pipe.dtype, "device": pipe.device.type}
    return {name: str(value).removeprefix("torch.") for name, value in own.items() if value != auto[name]}


def describe(pipe: Any) -> str:
    """Return where and in which precision a pipeline runs, such as "cuda, float16"."""
    return f"{pipe.device}, {str(pipe.dtype).removeprefix('torch.')}"
