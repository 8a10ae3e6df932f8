"""Scores of many pictures together: distances from real ones, fit to the captions, brightness; for one remedy at one guidance scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .gallery import EXAMPLES, Job
from .metrics.brightness import Lumas, brightness_distance
from .metrics.crowd import Crowd
from .metrics.fidelity import Fidelity, compare
from .metrics.text_score import PictureTextScore, TextScore
from .painter import Painter
from .real import Real
from .remedies import Remedy


@dataclass(frozen=True)
class Scores:
    """Scores of the pictures of one remedy on one model at one guidance scale.

    Attributes:
        model: its name.
        remedy: how sampling started.
        guidance_scale: of all pictures.
        pictures: how many were painted.
        fidelity: per extractor.
        text: how well the pictures fit their captions; None where that was not asked for.
        mean_luma, mean_luma_std: mean over pictures of their mean luma, 0..255, and its standard deviation.
        brightness_distance: Wasserstein-1 distance between the mean lumas of generated and real pictures; None where the latter are not known.
        shown, prompts: the first pictures and their captions.
        settings: of the gallery.
    """

    model: str
    remedy: Remedy
    guidance_scale: float
    pictures: int
    fidelity: list[Fidelity]
    text: TextScore | None
    mean_luma: float
    mean_luma_std: float
    brightness_distance: float | None
    shown: list[Image.Image]
    prompts: list[str]
    settings: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return every figure; the keys are documented in docs/evaluate.md."""
        return {
            "model": self.model,
            "remedy": self.remedy.name,
            "title": self.remedy.title,
            "guidance_scale": self.guidance_scale,
            "pictures": self.pictures,
            "fidelity": [each.as_json() for each in self.fidelity],
            "text": None if self.text is None else self.text.as_json(),
            "mean_luma": self.mean_luma,
            "mean_luma_std": self.mean_luma_std,
            "brightness_distance": self.brightness_distance,
            "settings": self.settings,
        }


def score(
    painter: Painter,
    remedy: Remedy,
    jobs: Sequence[Job],
    guidance_scale: float,
    real: Real,
    text: PictureTextScore | None,
    advance: Callable[[int], None] = lambda count: None,
) -> Scores:
    """Paint what is missing, then read the pictures from the disk, a batch at a time, and measure them.

    Args:
        painter: the model, and how it paints.
        remedy: how sampling starts.
        jobs: captions with seeds; one picture each.
        guidance_scale: of all pictures.
        real: real pictures to compare with, by extractor.
        text: scores pictures with their captions; None: not wanted.
        advance: called with the number of pictures that are done.
    """
    gallery = painter.paint(remedy, jobs, guidance_scale, advance)
    mine = painter.processes.share(jobs)
    crowds, seen = [Crowd(extractor) for extractor in real.extractors], Lumas()
    if text is not None:
        text.reset()
    start = 0
    for pictures in gallery.batches(mine):
        seen.see(pictures)
        for crowd in crowds:
            crowd.see(pictures)
        if text is not None:
            text.see(pictures, [job.prompt.text for job in mine[start : start + len(pictures)]])
        start += len(pictures)
    mean_lumas = seen.values()
    return Scores(
        painter.model,
        remedy,
        guidance_scale,
        len(jobs),
        [compare(known, crowd.statistics()) for known, crowd in zip(real.statistics, crowds, strict=True)],
        None if text is None else text.compute(),
        float(mean_lumas.mean()),
        float(mean_lumas.std()),
        None if real.mean_lumas is None else brightness_distance(real.mean_lumas, mean_lumas),
        gallery.examples(jobs),
        [job.prompt.text for job in jobs[:EXAMPLES]],
        gallery.settings,
    )
