"""From captions and seeds to pictures: one pipeline, with any remedy, painting into galleries on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .. import __version__
from ..errors import SingDiffusionError
from ..painting.paint import WITHHELD, paint
from ..painting.room import require_room
from ..painting.steps import check_steps
from .digests import weights_digest
from .gallery import Gallery, Job
from .processes import Processes
from .remedies import Remedy

NETWORKS = ("unet", "transformer", "controlnet", "vae", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Controls:
    """The pictures that a ControlNet follows, one per painted picture, chosen by its seed.

    Attributes:
        images: followed in turn.
        plain: prompts that begin with these words follow an empty (black) picture.
    """

    images: Sequence[Image.Image]
    plain: str | None = None

    def of(self, job: Job) -> Image.Image:
        """Return the picture that a job's picture follows."""
        image = self.images[job.seed % len(self.images)]
        if self.plain is not None and job.prompt.text.startswith(self.plain):
            return Image.new("RGB", image.size)
        return image

    def settings(self) -> dict[str, Any]:
        """Return what painted pictures depend on, as JSON."""
        return {"pictures": [_picture_digest(image) for image in self.images], "plain": self.plain}


@dataclass
class Painter:
    """A model, and how its pictures are made with any remedy.

    Attributes:
        model: its name, for reports.
        pipe: the pipeline, with its scheduler and on its device. Its safety checker is removed, because it replaces pictures by black ones.
        cache: folder of the galleries.
        options: for the pipeline: ``num_inference_steps``, ``guidance_scale``, ``height``, ``width``; the pipeline's own where they are absent.
        negative_prompt: of every picture.
        batch: pictures in one call of the pipeline.
        controls: for a ControlNet.
        painted: pictures that were missing so far and are painted.
    """

    model: str
    pipe: Any
    cache: Path
    processes: Processes
    options: dict[str, Any]
    negative_prompt: str | None = None
    batch: int = 16
    controls: Controls | None = None
    painted: int = field(default=0, init=False)

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
            "scheduler": {"class": type(self.pipe.scheduler).__name__} | _short(scheduler),
            "controls": None if self.controls is None else self.controls.settings(),
            "versions": {
                "singdiffusion": __version__,
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
            },
        }

    def settings(self, remedy: Remedy, guidance_scale: float | None = None) -> dict[str, Any]:
        """Return everything that the pictures depend on except caption and seed."""
        return (
            self._model_settings
            | self._options(guidance_scale)
            | {"negative_prompt": self.negative_prompt, "remedy": remedy.settings(self.pipe)}
        )

    def _options(self, guidance_scale: float | None) -> dict[str, Any]:
        return self.options | ({} if guidance_scale is None else {"guidance_scale": guidance_scale})

    def gallery(self, remedy: Remedy, guidance_scale: float | None = None) -> Gallery:
        """Return the gallery for a remedy; its pictures may not be painted yet."""
        return Gallery(self.cache, self.settings(remedy, guidance_scale))

    def paint(
        self,
        remedy: Remedy,
        jobs: Sequence[Job],
        guidance_scale: float | None = None,
        advance: Callable[[int], None] = lambda count: None,
    ) -> Gallery:
        """Paint the pictures that are missing, and return their gallery.

        Args:
            guidance_scale: in place of the one in ``options``.
            advance: called with the number of pictures that are done; a long batch counts step by step.
        """
        gallery, options = self.gallery(remedy, guidance_scale), self._options(guidance_scale)
        require_room(self.pipe, min(self.batch, len(jobs)), options.get("height"), options.get("width"))
        done = _Done(advance, options.get("num_inference_steps"))
        with remedy.applied(self.pipe) as more:
            check_steps(self.pipe, options["num_inference_steps"])

            def batch(part: list[Job]) -> list[Image.Image]:
                return self._paint_batch(part, options | more, done.step)

            self.painted += gallery.paint(jobs, batch, self.batch, self.processes, done.pictures)
        return gallery

    def _paint_batch(self, jobs: list[Job], options: dict[str, Any], on_step: Callable[[], None]) -> list[Image.Image]:
        prompts, seeds = [job.prompt.text for job in jobs], [job.seed for job in jobs]
        options = options | {"negative_prompt": self.negative_prompt, "on_step": on_step}
        options["controls"] = None if self.controls is None else [self.controls.of(job) for job in jobs]
        made = paint(self.pipe, prompts, seeds, **options)
        kept = [image for image in made if image is not None]
        if len(kept) < len(made):  # by a checker that is not the pipeline's ``safety_checker``
            raise SingDiffusionError(f"a picture of {prompts[made.index(None)]!r} was {WITHHELD}; evaluation needs all")
        return kept


class _Done:
    """Counts ``steps`` denoising steps as a picture, so that progress moves within a batch; each picture counts once."""

    def __init__(self, advance: Callable[[int], None], steps: int | None):
        self._advance, self._steps = advance, steps
        self._calls = self._early = 0

    def step(self) -> None:
        """Count a denoising step of one picture."""
        self._calls += 1
        if self._steps and self._calls % self._steps == 0:
            self._early += 1
            self._advance(1)

    def pictures(self, count: int) -> None:
        """Count pictures that are done, apart from those that their steps have counted."""
        self._advance(count - self._early)
        self._calls = self._early = 0


def _short(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration that JSON can hold, with digests in place of long lists (``trained_betas``)."""

    def short(value: Any) -> Any:
        text = json.dumps(value, default=str)
        return (
            value if len(text) < 200 and json.loads(text) == value else hashlib.sha256(text.encode()).hexdigest()[:16]
        )

    return {key: short(value) for key, value in config.items()}


def _picture_digest(image: Image.Image) -> str:
    return hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest()[:16]
