"""What a crowd of pictures is worth: distances from real ones, fit to the captions, brightness; for one remedy at one guidance scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from ..errors import SingDiffusionError
from .gallery import Job
from .metrics.brightness import Lumas, brightness_distance
from .metrics.fidelity import Crowd, Fidelity, Statistics, compare
from .metrics.text_score import PictureTextScore, TextScore
from .painter import Painter
from .remedies import Remedy
from .reports.document import SHOWN


@dataclass
class Real:
    """Real pictures, seen once by every extractor.

    Attributes:
        statistics: one an extractor.
        lumas: mean lumas of the pictures; None where only statistics are known.
        notes: what a reader must know.
    """

    extractors: Sequence[nn.Module]
    statistics: list[Statistics]
    lumas: np.ndarray | None
    notes: list[str]

    @classmethod
    def of_pictures(
        cls, extractors: Sequence[nn.Module], batches: Iterable[Tensor], notes: Callable[[], list[str]] = list
    ) -> Real:
        """From pictures, this process's share of them; ``notes`` is asked when all are read."""
        crowds, lumas = [Crowd(extractor, which="real") for extractor in extractors], Lumas()
        for pictures in batches:
            lumas.see(pictures)
            for crowd in crowds:
                crowd.see(pictures)
        return cls(extractors, [crowd.statistics() for crowd in crowds], lumas.values(), notes())

    @classmethod
    def of_file(cls, extractors: Sequence[nn.Module], file: Path) -> Real:
        """From saved statistics of one extractor's features.

        Raises:
            SingDiffusionError: there are several extractors, or the file is no such thing.
        """
        if len(extractors) != 1:
            raise SingDiffusionError(f"{file} holds statistics of one network's features; name one with --features")
        return cls(extractors, [Statistics.load(file)], None, [])


@dataclass(frozen=True)
class Scores:
    """Of the pictures of one remedy on one model at one guidance scale.

    Attributes:
        fidelity: one an extractor.
        text: how well they fit their captions; None where that was not asked for.
        grey, grey_std: mean over pictures of their mean luma, 0..255, and its standard deviation.
        brightness_distance: Wasserstein-1 between the mean lumas of generated and real pictures; None where the latter are not known.
        shown, prompts: the first pictures and their captions.
        settings: of the gallery.
    """

    model: str
    remedy: Remedy
    guidance: float
    pictures: int
    fidelity: list[Fidelity]
    text: TextScore | None
    grey: float
    grey_std: float
    brightness_distance: float | None
    shown: list[Image.Image]
    prompts: list[str]
    settings: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "remedy": self.remedy.name,
            "title": self.remedy.title,
            "guidance": self.guidance,
            "pictures": self.pictures,
            "fidelity": [each.as_json() for each in self.fidelity],
            "text": None if self.text is None else self.text.as_json(),
            "grey": self.grey,
            "grey_std": self.grey_std,
            "brightness_distance": self.brightness_distance,
            "settings": self.settings,
        }


def score(
    painter: Painter,
    remedy: Remedy,
    jobs: Sequence[Job],
    guidance: float,
    real: Real,
    text: PictureTextScore | None,
    advance: Callable[[int], None] = lambda count: None,
) -> Scores:
    """Paint what is missing and measure it, from the disk, a batch at a time."""
    gallery = painter.paint(remedy, jobs, guidance, advance)
    mine = painter.processes.share(jobs)
    crowds, lumas = [Crowd(extractor) for extractor in real.extractors], Lumas()
    if text is not None:
        text.reset()
    start = 0
    for pictures in gallery.batches(mine):
        lumas.see(pictures)
        for crowd in crowds:
            crowd.see(pictures)
        if text is not None:
            text.see(pictures, [job.prompt.text for job in mine[start : start + len(pictures)]])
        start += len(pictures)
    greys = lumas.values()
    return Scores(
        painter.model,
        remedy,
        guidance,
        len(jobs),
        [compare(known, crowd.statistics()) for known, crowd in zip(real.statistics, crowds, strict=True)],
        None if text is None else text.compute(),
        float(greys.mean()),
        float(greys.std()),
        None if real.lumas is None else brightness_distance(real.lumas, greys),
        [gallery.read(job) for job in jobs[:SHOWN]],
        [job.prompt.text for job in jobs[:SHOWN]],
        gallery.settings,
    )
