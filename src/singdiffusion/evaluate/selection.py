"""Which remedies go with a model, which captions and which real pictures it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import tiny
from ..data.pictures import Unusable, load
from ..data.sources import SUFFIXES
from ..errors import SingDiffusionError
from .painting import Controls
from .prompts import Prompt, too_long
from .remedies import FirstStep, Off, Remedy


def remedies_for(
    pipe: Any, modules: Sequence[str], method: str | None, alone: bool = True
) -> tuple[list[Remedy], list[str]]:
    """Off, and the first step of every module that fits; and a line for each that does not.

    Args:
        alone: whether this is the only model: then a module that does not fit is a mistake.

    Raises:
        SingDiffusionError: a module does not fit the only model.
    """
    fitting: list[Remedy] = [Off()]
    lines = []
    for module in modules:
        remedy = FirstStep(module, method)
        reason = remedy.unfit(pipe)
        if reason is not None and alone:
            raise SingDiffusionError(f"--module {module}: {reason}")
        if reason is None:
            fitting.append(remedy)
        else:
            lines.append(f"{module} does not fit: {reason}")
    return fitting, lines


def controls_for(pipe: Any, model: str, path: Path | None) -> Controls | None:
    """What a ControlNet follows: a picture, a folder of them, or the embedded one's own edges; None where there is no ControlNet.

    Raises:
        SingDiffusionError: there is a ControlNet and nothing to follow, or the reverse, or a picture cannot be read.
    """
    has_one = getattr(pipe, "controlnet", None) is not None
    if path is None:
        if model == "tiny-controlnet":
            return Controls(list(tiny.hints().values()), plain="solid")
        if has_one:
            raise SingDiffusionError(f"{model} has a ControlNet; say what to follow: --control PICTURE or FOLDER")
        return None
    if not has_one:
        raise SingDiffusionError(f"--control goes with a ControlNet, and {model} has none")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise SingDiffusionError(f"--control {path} holds no pictures ({', '.join(SUFFIXES)})")
    return Controls([_picture(file) for file in files])


def _picture(file: Path) -> Image.Image:
    try:
        return load(file, smallest=1)[0]
    except Unusable as error:
        raise SingDiffusionError(f"--control {file} {error}") from error


def real_greys(model: str, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Prompt id -> mean grey of real pictures, where it is known: for the embedded models."""
    if model not in tiny.MODELS:
        return {}
    known = {prompt: row["mean"] for prompt, row in tiny.reference(model).items()}
    if model != "tiny-controlnet":
        for group in tiny.captions().values():
            known = {caption: float(np.mean(greys)) for caption, greys in group.items()} | known
    return {prompt.id: known[prompt.text] for prompt in prompts if prompt.text in known}


def said_of(pipe: Any, prompts: Sequence[Prompt]) -> list[str]:
    """Lines on prompts whose end the model does not read."""
    tokenizer = getattr(pipe, "tokenizer", None)
    cut = [] if tokenizer is None else too_long(prompts, tokenizer)
    if not cut:
        return []
    return [
        f"{len(cut)} of {len(prompts)} prompts are longer than the {tokenizer.model_max_length} tokens that the text encoder reads and were cut, "  # type: ignore[union-attr]
        f"the first is {cut[0].id!r}"
    ]
