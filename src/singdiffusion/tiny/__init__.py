"""The embedded Stable Diffusion: 64 x 64 pictures, SD-1.5's flaw at SD-1.5's strength, and the module that cures it.

Nothing is downloaded. ``recipes/tiny`` in the repository makes every file in this folder again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SingDiffusionError

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

__all__ = ["folder", "load_pipeline", "module_folder", "reference"]

_HERE = Path(__file__).parent


def _present(path: Path) -> Path:
    if not path.exists():
        raise SingDiffusionError(f"the embedded model is incomplete: {path} is missing; reinstall singdiffusion")
    return path


def folder() -> Path:
    """The base model in diffusers' own layout: ``StableDiffusionPipeline.from_pretrained(folder())`` loads it."""
    return _present(_HERE / "base")


def module_folder() -> Path:
    """The module that ``SingDiffusion.from_pretrained("tiny")`` loads, a ``TimeFreeUNet``."""
    return _present(_HERE / "unet")


def load_pipeline(torch_dtype: torch.dtype | None = None) -> StableDiffusionPipeline:
    """The embedded base as an ordinary ``StableDiffusionPipeline``, on the CPU.

    Args:
        torch_dtype: float32 (default), bfloat16 or float16; the weights are stored in float16.

    Raises:
        SingDiffusionError: a file of the embedded model is missing.
    """
    import torch
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(
        str(folder()), torch_dtype=torch_dtype or torch.float32, local_files_only=True
    )


def reference() -> dict:
    """Brightness of real pictures of the training distribution, by caption.

    Returns:
        ``{"prompts": {caption: {"mean", "std", "count"}}}``: mean over pictures of a picture's mean luma (Rec. 601,
        0..255), and its standard deviation over pictures.
    """
    return json.loads(_present(_HERE / "reference.json").read_text())
