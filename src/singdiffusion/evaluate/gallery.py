"""Pictures at scale: kept on disk by the settings that made them, so that none is painted twice and a stopped run can resume.

A gallery is a folder of PNG files that were all made with the same settings; its name is the digest of these. Several processes
(``accelerate launch``) share the work. Batches are cut from the whole list of jobs, whatever is there already and whichever process
paints them. So a run that was interrupted or shared gives the same pictures as one that was not.
"""

from __future__ import annotations

import math
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
from ..memory import require_memory
from ..painting.metadata import OFF, ON, PictureSettings, json_text, settings_from
from ..painting.png import png
from ..painting.prompts import Prompt, slug
from .digests import digest
from .processes import Processes

SETTINGS = "settings.json"
EXAMPLES = 8  # pictures that a report shows in a row
JOB = 400  # bytes of a job, and of what is kept of its picture
SHOWN_SIDE = 512  # pixels of these
MOST_PIXELS = 2**25  # of the pictures that are in memory at once: 32 of 1024 x 1024
FIRST_STEPS = {"singdiffusion": "method", "flat": "color"}  # remedy -> its option of SingDiffusion.enable


@dataclass(frozen=True)
class Job:
    """One picture to paint: its caption and its seed."""

    prompt: Prompt
    seed: int


def jobs_of_prompts(prompts: Sequence[Prompt], pictures: int, seed: int) -> list[Job]:
    """Return ``pictures`` jobs for every prompt, each prompt with the same seeds, counted up from ``seed``.

    Raises:
        SingDiffusionError: there are more than the memory can list.
    """
    _require_listable(len(prompts) * pictures)
    return [Job(prompt, seed + i) for prompt in prompts for i in range(pictures)]


def jobs_of_captions(captions: Sequence[Prompt], pictures: int, seed: int) -> list[Job]:
    """Return ``pictures`` jobs in all, each with a seed of its own; captions are used in order, and again when all are used.

    Raises:
        SingDiffusionError: there are more than the memory can list.
    """
    _require_listable(pictures)
    return [Job(captions[i % len(captions)], seed + i) for i in range(pictures)]


def _require_listable(pictures: int) -> None:
    require_memory(JOB * pictures, f"a list of {pictures:,} pictures", "pictures")


class Gallery:
    """The pictures made with one choice of settings.

    Args:
        cache: a folder, shared by any number of galleries and commands.
        settings: everything that the pictures depend on except caption and seed; JSON.
    """

    def __init__(self, cache: Path, settings: dict[str, Any]):
        self.settings = settings
        self.folder = cache / digest(settings)

    def file(self, job: Job) -> Path:
        """Return the file of a picture. Its name has a digest of the caption, in case a caption changes and keeps its id."""
        name = f"{slug(job.prompt.id)}-{job.seed}-{digest([job.prompt.id, job.prompt.text])}.png"
        return self.folder / digest(name)[:2] / name

    def has(self, job: Job) -> bool:
        """Return whether a picture is painted."""
        try:
            return self.file(job).stat().st_size > 0  # after a power failure a file may be there without content
        except OSError:
            return False

    def missing(self, jobs: Sequence[Job], batch: int) -> list[list[Job]]:
        """Return the batches in which a picture is missing."""
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
        """Paint what is missing, each process its share, and return the number of pictures that were missing.

        Args:
            paint: from jobs to their pictures; each must depend only on its own job and on the batch that it is in.
            advance: called with the number of pictures that are done.
        """
        missing = processes.agree(lambda: self.missing(jobs, batch))
        if missing:
            output_folder(self.folder)
            if processes.first:
                write_whole(self.folder / SETTINGS, json_text(self.settings, indent=2) + "\n")
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
        """Return a picture, RGB.

        Raises:
            SingDiffusionError: it is missing or damaged, or larger than the memory.
        """
        file = self.file(job)
        try:
            with Image.open(file) as picture:
                require_memory(4 * 3 * picture.width * picture.height, f"the picture {file}")
                return picture.convert("RGB")
        except SingDiffusionError:
            raise
        except Exception as error:  # Pillow raises many kinds for a damaged PNG
            raise SingDiffusionError(f"the picture {file} cannot be read; delete it and run again") from error

    def examples(self, jobs: Sequence[Job]) -> list[Image.Image]:
        """Return the first ``EXAMPLES`` pictures, for a report: larger ones are reduced to ``SHOWN_SIDE``."""
        images = [self.read(job) for job in jobs[:EXAMPLES]]
        for image in images:
            image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        return images

    def batches(self, jobs: Sequence[Job], size: int = 32) -> Iterator[torch.Tensor]:
        """Yield pictures from the disk, uint8 (B, 3, H, W), in the order of the jobs; B is smaller for large pictures.

        Raises:
            SingDiffusionError: a picture is missing or damaged, or of another size than the first.
        """
        whole = self.read(jobs[0]).size if jobs else (1, 1)
        size = max(1, min(size, MOST_PIXELS // math.prod(whole)))
        for start in range(0, len(jobs), size):
            yield as_tensor([self._read_of(job, whole) for job in jobs[start : start + size]])

    def _read_of(self, job: Job, size: tuple[int, int]) -> Image.Image:
        image = self.read(job)
        if image.size != size:
            one, other = (f"{width} x {height}" for width, height in (image.size, size))
            raise SingDiffusionError(
                f"the picture {self.file(job)} has {one} pixels, and others of its gallery {other}; delete it and run again"
            )
        return image


def as_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Return pictures of one size as uint8 (N, 3, H, W)."""
    return torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images])).permute(0, 3, 1, 2)
