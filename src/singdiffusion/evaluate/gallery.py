"""Pictures at scale: on disk, keyed by what made them, so that no picture is painted twice and a stopped run goes on where it stopped.

A gallery is a folder of PNG files that were all made with the same settings; its name is the digest of these. Several processes
(``accelerate launch``) share the work. Batches are cut from the whole list of jobs, whatever is there already and whoever
paints them, so that a run that was interrupted, or shared, gives the same pictures as one that was not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import SingDiffusionError
from ..files import output_folder, write_whole
from ..painting.png import png
from ..painting.prompts import Prompt, slug
from ..painting.settings import OFF, ON, PictureSettings, settings_from
from .digests import digest
from .processes import Processes

SETTINGS = "settings.json"
FIRST_STEPS = {"singdiffusion": "method", "flat": "color"}  # remedy -> its option of SingDiffusion.enable


@dataclass(frozen=True)
class Job:
    """One picture: whose caption, and from which seed."""

    prompt: Prompt
    seed: int


def jobs_of_prompts(prompts: Sequence[Prompt], pictures: int, seed: int) -> list[Job]:
    """``pictures`` of every prompt, each prompt with the same seeds."""
    return [Job(prompt, seed + i) for prompt in prompts for i in range(pictures)]


def jobs_of_captions(captions: Sequence[Prompt], pictures: int, seed: int) -> list[Job]:
    """``pictures`` in all, a caption after the other, from the first again where they are used up; each with a seed of its own."""
    return [Job(captions[i % len(captions)], seed + i) for i in range(pictures)]


class Gallery:
    """The pictures made with one choice of settings.

    Args:
        cache: a folder, shared by any number of galleries and commands.
        settings: whatever the pictures depend on besides caption and seed; JSON.
    """

    def __init__(self, cache: Path, settings: dict[str, Any]):
        self.settings = settings
        self.folder = cache / digest(settings)

    def file(self, job: Job) -> Path:
        """Where a picture lies; the caption's digest in its name keeps an id whose caption was changed apart."""
        name = f"{slug(job.prompt.id)}-{job.seed}-{digest([job.prompt.id, job.prompt.text])}.png"
        return self.folder / digest(name)[:2] / name

    def has(self, job: Job) -> bool:
        try:
            return self.file(job).stat().st_size > 0  # a machine that lost power may leave a name without content
        except OSError:
            return False

    def missing(self, jobs: Sequence[Job], batch: int) -> list[list[Job]]:
        """The batches in which a picture is missing."""
        batches = [list(jobs[start : start + batch]) for start in range(0, len(jobs), batch)]
        return [part for part in batches if not all(self.has(job) for job in part)]

    def paint(
        self,
        jobs: Sequence[Job],
        paint: Callable[[list[Job]], list[Image.Image]],
        batch: int,
        processes: Processes,
        advance: Callable[[int], None] = lambda count: None,
    ) -> int:
        """Make what is missing, this process its share, and return, when all are done, how many pictures were missing.

        Args:
            paint: from jobs to their pictures; each must depend on its own job and on the batch it is in, nothing else.
            advance: told how many pictures are done.
        """
        missing = processes.agree(lambda: self.missing(jobs, batch))
        if missing:
            output_folder(self.folder)
            if processes.first:
                write_whole(self.folder / SETTINGS, json.dumps(self.settings, indent=2, ensure_ascii=False) + "\n")
        advance(len(jobs) - sum(map(len, missing)))
        for part in processes.share(missing):
            for job, image in zip(part, paint(part), strict=True):
                self._keep(job, image)
            advance(len(part) * processes.count)
        processes.wait()
        return sum(map(len, missing))

    def _keep(self, job: Job, image: Image.Image) -> None:
        file = self.file(job)
        if not self.has(job):
            file.parent.mkdir(exist_ok=True)
            write_whole(file, png(image, self._picture_settings(job, image)))

    def _picture_settings(self, job: Job, image: Image.Image) -> PictureSettings:
        """Return what the picture's file records: diffusers' names, and the gallery's settings as details."""
        scheduler, remedy = self.settings.get("scheduler", {}), self.settings.get("remedy", {})
        option = FIRST_STEPS.get(remedy.get("remedy"))
        return settings_from(
            self.settings,
            job.prompt.text,
            job.seed,
            scheduler=scheduler.get("class"),
            torch_dtype=self.settings.get("dtype"),
            height=image.height,
            width=image.width,
            singdiffusion=OFF if option is None else ON,
            first_step=None if option is None else {option: remedy.get(option)},
        )

    def read(self, job: Job) -> Image.Image:
        """A picture, RGB.

        Raises:
            SingDiffusionError: it is not there or is damaged.
        """
        file = self.file(job)
        try:
            with Image.open(file) as picture:
                return picture.convert("RGB")
        except (OSError, SyntaxError) as error:  # Pillow's word for a damaged PNG is SyntaxError
            raise SingDiffusionError(f"the picture {file} cannot be read; delete it and run again") from error

    def batches(self, jobs: Sequence[Job], size: int = 32) -> Iterator[torch.Tensor]:
        """Pictures from the disk, uint8 (B, 3, H, W), in the order of the jobs."""

        for start in range(0, len(jobs), size):
            yield as_tensor([self.read(job) for job in jobs[start : start + size]])


def as_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size as uint8 (N, 3, H, W)."""
    return torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images])).permute(0, 3, 1, 2)
