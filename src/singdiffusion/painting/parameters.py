"""The ``parameters`` text of a PNG file, in the form of AUTOMATIC1111's web UI, which artists' tools read."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from .. import __version__
from ..errors import visible
from .metadata import PictureSettings
from .scheduler_names import sampler_name

NEGATIVE = "Negative prompt:"


def parameters(settings: PictureSettings) -> str:
    """Return prompt, negative prompt and one line of settings: "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 0, Size: 512x512".

    The form has no way to quote "Negative prompt:" inside a prompt: a space before its colon keeps the two prompts apart.
    The exact prompt is in the settings of ``PictureSettings.as_json``.
    """
    lines = [_prompt(settings.prompt)]
    if settings.negative_prompt:
        lines.append(f"{NEGATIVE} {_prompt(settings.negative_prompt)}")
    lines.append(", ".join(f"{name}: {value}" for name, value in _facts(settings).items() if value is not None))
    return "\n".join(lines)


def _facts(settings: PictureSettings) -> dict[str, Any]:
    """Name in the web UI -> value; SingDiffusion's own names last, as extensions of the web UI write theirs."""
    sized = settings.width is not None and settings.height is not None
    return {
        "Steps": settings.num_inference_steps,
        "Sampler": None if settings.scheduler is None else sampler_name(settings.scheduler),
        "CFG scale": None if settings.guidance_scale is None else f"{settings.guidance_scale:g}",
        "Seed": settings.seed,
        "Size": f"{settings.width}x{settings.height}" if sized else None,
        "Model": _bare(settings.model),
        "SingDiffusion": settings.singdiffusion,
        "SingDiffusion module": _bare(settings.module),
        "SingDiffusion method": (settings.first_step or {}).get("method"),
        "Version": f"singdiffusion {__version__}",
    }


def _prompt(text: str) -> str:
    return text.replace(NEGATIVE, NEGATIVE.replace(":", " :"))


def _bare(name: str | None) -> str | None:
    """A model's name without folder and suffix, and without the signs that separate settings: some readers ignore quotes."""
    if name is None:
        return None
    return re.sub(r'[,:"\s]+', "-", visible(PurePath(name).name.removesuffix(".safetensors"))) or None
