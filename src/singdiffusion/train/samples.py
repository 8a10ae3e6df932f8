"""Sample pictures of a run, painted by the base without and with the module that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from ..errors import SingDiffusionError
from ..files import output_folder, write_whole
from ..modules import SingModule
from ..painting.bases import load_model
from ..painting.png import png
from ..plugin import SingDiffusion
from ..plugin.pipelines import spec_of, untouched
from .config import Config


class SamplePainter:
    """Paints ``validation.prompts``. The whole base is loaded once, and stays in the CPU's memory between validations.

    Args:
        config: of the run.
        device: to paint on; the base is moved there while it paints.

    Raises:
        SingDiffusionError: the base cannot be loaded, or a module cannot be plugged into it.
    """

    def __init__(self, config: Config, device: torch.device):
        self.spec, self.device = config.validation, device
        try:
            self.pipe = load_model(config.data.base, "cpu", torch.float32 if device.type == "cpu" else torch.float16)
            if untouched(self.pipe) is None:
                spec_of(self.pipe)
        except SingDiffusionError as error:
            raise SingDiffusionError(
                f"data.base must be able to paint validation.prompts; without prompts its text encoder suffices: {error}",
                setting="validation.prompts",
            ) from error
        self.pipe.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def paint(self, module: SingModule, file: Path) -> int:
        """Write a sheet with a column per prompt, seeds from 0: without the module above, with it below.

        Returns:
            How many of its pictures are black because the base's safety checker withheld them.
        """
        self._withheld = 0
        with self._on_device():
            sing = SingDiffusion(module)
            rows = [self._row()]
            sing.enable(self.pipe)
            try:
                rows.append(self._row())
            finally:
                sing.disable()
        width, height = rows[0][0].size
        sheet = Image.new("RGB", (width * len(rows[0]), height * len(rows)))
        for y, row in enumerate(rows):
            for x, picture in enumerate(row):
                sheet.paste(picture, (x * width, y * height))
        output_folder(file.parent)
        write_whole(file, png(sheet))
        return self._withheld

    def _row(self) -> list[Image.Image]:
        options: dict[str, Any] = {
            "num_inference_steps": self.spec.steps,
            "guidance_scale": self.spec.guidance_scale,
        }
        row = []
        for seed, prompt in enumerate(self.spec.prompts):
            made = self.pipe(prompt, generator=torch.Generator().manual_seed(seed), **options)
            self._withheld += any(getattr(made, "nsfw_content_detected", None) or ())
            row.append(made.images[0])
        return row

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Move the base to the device inside the block, and back to the CPU after it: training needs the device's memory."""
        self._move(self.device)
        try:
            yield
        finally:
            self._move(torch.device("cpu"))

    def _move(self, device: torch.device) -> None:
        """Move the networks one by one: ``pipe.to`` warns of float16 on a CPU, where they only wait."""
        for part in self.pipe.components.values():
            if isinstance(part, nn.Module):
                part.to(device)
