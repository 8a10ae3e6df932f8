"""Pictures of the base with a module that is being trained."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..errors import SingDiffusionError
from ..files import output_folder, write_whole
from ..modules import SingModule
from ..painting.bases import load_model
from ..plugin import SingDiffusion
from ..plugin.pipelines import spec_of, untouched
from .config import Config


def load_base(config: Config, device: Any) -> Any:
    """The whole base, of which training itself takes the text encoder only.

    Raises:
        SingDiffusionError: it cannot be had, or no module can be plugged into it.
    """
    base = config.data.base
    try:
        pipe = load_model(base, device)
        if untouched(pipe) is None:
            spec_of(pipe)
    except SingDiffusionError as error:
        raise SingDiffusionError(
            f"validation.prompts are painted with data.base; say --set validation.prompts=[]: {error}"
        ) from error
    return pipe


@torch.no_grad()
def paint(module: SingModule, config: Config, file: Path, device: Any) -> None:
    """Write a sheet with one picture per prompt, seeds from 0: without the module above, with it below."""
    spec = config.validation
    pipe = load_base(config, device)
    pipe.set_progress_bar_config(disable=True)
    sing = SingDiffusion(module)
    options = {"num_inference_steps": spec.steps, "guidance_scale": spec.guidance_scale}
    rows = []
    for plugged_in in (False, True):
        if plugged_in:
            sing.enable(pipe)
        seeds = [torch.Generator().manual_seed(i) for i in range(len(spec.prompts))]
        rows.append([pipe(p, generator=g, **options).images[0] for p, g in zip(spec.prompts, seeds, strict=True)])
    sing.disable()
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (width * len(spec.prompts), 2 * height))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * width, y * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    output_folder(file.parent)
    write_whole(file, buffer.getvalue())
