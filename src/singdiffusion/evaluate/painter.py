"""From captions and seeds to pictures, by one pipeline with whatever remedy, into galleries on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .. import __version__
from ..painting.paint import paint
from .digests import weights_digest
from .gallery import Gallery, Job
from .processes import Processes
from .remedies import Remedy

NETWORKS = ("unet", "transformer", "controlnet", "vae", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Controls:
    """For a ControlNet: what a picture follows, by its seed.

    Attributes:
        images: followed in turn.
        plain: prompts that begin so follow an empty (black) picture.
    """

    images: Sequence[Image.Image]
    plain: str | None = None

    def of(self, job: Job) -> Image.Image:
        image = self.images[job.seed % len(self.images)]
        if self.plain is not None and job.prompt.text.startswith(self.plain):
            return Image.new("RGB", image.size)
        return image

    def settings(self) -> dict[str, Any]:
        return {"pictures": [_picture_digest(image) for image in self.images], "plain": self.plain}


@dataclass
class Painter:
    """A model and how its pictures are made, whatever the remedy.

    Attributes:
        model: its name, for reports.
        pipe: the pipeline; its scheduler and its device are taken as they are. A safety checker is left out, since it paints pictures black.
        cache: folder of the galleries.
        options: for the pipeline: ``num_inference_steps``, ``guidance_scale``, ``height``, ``width``; those left out are the pipeline's own.
        negative: the negative prompt of every picture.
        batch: pictures in one call of the pipeline.
    """

    model: str
    pipe: Any
    cache: Path
    processes: Processes
    options: dict[str, Any]
    negative: str | None = None
    batch: int = 16
    controls: Controls | None = None
    painted: int = field(default=0, init=False)  # pictures that were not there

    def __post_init__(self) -> None:
        self.pipe.set_progress_bar_config(disable=True)
        if getattr(self.pipe, "safety_checker", None) is not None:
            self.pipe.safety_checker = None

    @cached_property
    def _model_settings(self) -> dict[str, Any]:
        import diffusers
        import transformers

        networks = {name: part for name in NETWORKS if (part := getattr(self.pipe, name, None)) is not None}
        scheduler = {key: value for key, value in sorted(self.pipe.scheduler.config.items()) if not key.startswith("_")}
        return {
            "model": self.model,
            "pipeline": type(self.pipe).__name__,
            "weights": weights_digest(networks),
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "device": self.pipe.device.type,
            "scheduler": {"class": type(self.pipe.scheduler).__name__} | _plain(scheduler),
            "controls": None if self.controls is None else self.controls.settings(),
            "versions": {
                "singdiffusion": __version__,
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
            },
        }

    def settings(self, remedy: Remedy, guidance: float | None = None) -> dict[str, Any]:
        """Whatever the pictures depend on besides caption and seed."""
        return (
            self._model_settings
            | self._options(guidance)
            | {"negative_prompt": self.negative, "remedy": remedy.settings(self.pipe)}
        )

    def _options(self, guidance: float | None) -> dict[str, Any]:
        return self.options | ({} if guidance is None else {"guidance_scale": guidance})

    def gallery(self, remedy: Remedy, guidance: float | None = None) -> Gallery:
        """Where the pictures of a remedy lie; they may not be painted yet."""
        return Gallery(self.cache, self.settings(remedy, guidance))

    def paint(
        self,
        remedy: Remedy,
        jobs: Sequence[Job],
        guidance: float | None = None,
        advance: Callable[[int], None] = lambda count: None,
    ) -> Gallery:
        """Make the pictures that are not there yet.

        Args:
            guidance: in place of the one in ``options``.
            advance: told how many pictures are done.
        """
        gallery, options = self.gallery(remedy, guidance), self._options(guidance)
        with remedy.applied(self.pipe) as more:

            def batch(part: list[Job]) -> list[Image.Image]:
                return self._paint_batch(part, options | more)

            self.painted += gallery.paint(jobs, batch, self.batch, self.processes, advance)
        return gallery

    def _paint_batch(self, jobs: list[Job], options: dict[str, Any]) -> list[Image.Image]:
        prompts, seeds = [job.prompt.text for job in jobs], [job.seed for job in jobs]
        controls = None if self.controls is None else [self.controls.of(job) for job in jobs]
        return paint(self.pipe, prompts, seeds, controls=controls, negative_prompt=self.negative, **options)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration that JSON can hold: long lists (``trained_betas``) by their digest."""
    import json

    def short(value: Any) -> Any:
        text = json.dumps(value, default=str)
        return (
            value if len(text) < 200 and json.loads(text) == value else hashlib.sha256(text.encode()).hexdigest()[:16]
        )

    return {key: short(value) for key, value in config.items()}


def _picture_digest(image: Image.Image) -> str:
    return hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest()[:16]
