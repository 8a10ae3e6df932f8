"""Brightness of the pictures of prompts, for any remedies and the same seeds: paint what is missing, and measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..painting.luma import histogram, lumas
from ..painting.prompts import Prompt
from .gallery import EXAMPLES, Gallery, Job, jobs_of_prompts
from .metrics.brightness import Brightness
from .painter import Painter
from .processes import Processes
from .remedies import Remedy

READ = 64  # pictures in memory at once
MOST_SHOWN = 40  # prompts whose pictures a report shows


@dataclass(frozen=True)
class PromptBrightness:
    """Brightness of the pictures of several prompts, painted by one model with one remedy.

    Attributes:
        found: prompt id -> brightness.
        shown: prompt id -> the first pictures, for a report, of the first ``MOST_SHOWN`` prompts.
        settings: of the gallery that holds the pictures.
    """

    model: str
    remedy: Remedy
    found: dict[str, Brightness]
    shown: dict[str, list[Image.Image]]
    settings: dict[str, Any]


def measure(
    painter: Painter,
    remedies: Sequence[Remedy],
    prompts: Sequence[Prompt],
    pictures: int,
    seed: int,
    advance: Callable[[int], None] = lambda count: None,
) -> list[PromptBrightness]:
    """Paint what is missing, and return the brightness with each remedy.

    Args:
        pictures: of each prompt, with seeds counted up from ``seed``, the same for all prompts and remedies.
        advance: called with the number of pictures that are done.
    """
    jobs = jobs_of_prompts(prompts, pictures, seed)
    measured = []
    for remedy in remedies:
        gallery = painter.paint(remedy, jobs, advance=advance)
        found = brightness_of(gallery, jobs, painter.processes)
        shown = {
            prompt.id: gallery.examples(jobs_of_prompts([prompt], min(pictures, EXAMPLES), seed))
            for prompt in prompts[:MOST_SHOWN]
        }
        measured.append(PromptBrightness(painter.model, remedy, found, shown, gallery.settings))
    return measured


def brightness_of(gallery: Gallery, jobs: Sequence[Job], processes: Processes) -> dict[str, Brightness]:
    """Return prompt id -> brightness, from the pictures on disk; each process reads its share."""
    mine = processes.share(jobs)
    means: list[float] = []
    counts = []
    for batch in gallery.batches(mine, READ):
        for picture in batch:  # one at a time, because lumas take many times the memory of 8 bits
            values = lumas(picture[None])
            means.append(float(values.mean()))
            counts.append(histogram(values))
    every = processes.gather(list(zip(means, counts, strict=True)))
    by_prompt: dict[str, list[tuple[float, np.ndarray]]] = {}
    for job, each in zip(jobs, every, strict=True):
        by_prompt.setdefault(job.prompt.id, []).append(each)
    return {
        id: Brightness.of([mean for mean, _ in each], np.sum([count for _, count in each], axis=0))
        for id, each in by_prompt.items()
    }


def miss(found: Mapping[str, Brightness], real: Mapping[str, float]) -> float | None:
    """Return the distance of mean lumas from real pictures', summed over prompts; None where a real one is not known.

    Args:
        found: prompt id -> brightness.
        real: prompt id -> mean luma of real pictures.
    """
    if not set(found) <= set(real):
        return None
    return sum(abs(each.mean - real[id]) for id, each in found.items())
