"""All remedies on one model, with the same prompts, captions and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .. import tiny
from ..painting.prompts import Prompt
from .brightness import measure, miss
from .gallery import Job
from .metrics import cost
from .metrics.text_score import PictureTextScore
from .painter import Painter
from .real import Real
from .remedies import Remedy, available
from .reports.document import Document
from .reports.remedies import remedies_document
from .scores import score
from .selection import real_mean_lumas, truncation_notes


def compare_remedies(
    painter: Painter,
    prompts: Sequence[Prompt],
    pictures: int,
    jobs: Sequence[Job],
    real: Real,
    text: PictureTextScore | None,
    *,
    modules: Sequence[str],
    statistics: Path | None,
    colors: Sequence[str],
    one_more_step: str | None,
    pairs: int,
    seed: int,
    settings: dict[str, Any],
    painting: Callable[[int], AbstractContextManager[Callable[[int], None]]],
) -> tuple[Document, int]:
    """Measure every remedy that the model can have: brightness on prompts, distance and text score on captions, time, memory.

    Args:
        pictures: per prompt.
        jobs: captions and seeds.
        pairs: of a picture without and a picture with the remedy, for the time; every process measures, the first one's figures count.
        modules, statistics, colors, one_more_step: as in ``remedies.available``.
        painting: from the number of pictures to a ``with`` block that yields what is called with the number of those done.

    Returns:
        The report, and the number of pictures behind it.
    """
    model, guidance_scale = painter.model, painter.options["guidance_scale"]
    remedies, absent = available(
        painter.pipe,
        modules,
        embedded=model in tiny.MODELS,
        statistics=statistics,
        colors=colors,
        one_more_step=one_more_step,
    )
    expected = len(remedies) * (len(prompts) * pictures + len(jobs))
    with painting(expected) as advance:
        measured = measure(painter, remedies, prompts, pictures, seed, advance)
        scores = [score(painter, remedy, jobs, guidance_scale, real, text, advance) for remedy in remedies]
    known = real_mean_lumas(model, prompts)
    costs = {remedy.name: _cost(painter, remedy, prompts[0].text, pairs) for remedy in remedies if remedy.name != "off"}
    document = remedies_document(
        scores,
        measured,
        {each.remedy.name: miss(each.found, known) for each in measured},
        costs,
        absent,
        real,
        settings,
        truncation_notes(painter.pipe, prompts),
    )
    return document, expected


def _cost(painter: Painter, remedy: Remedy, prompt: str, pairs: int) -> cost.Cost:
    options: dict[str, Any] = painter.options | {"negative_prompt": painter.negative_prompt}
    if painter.controls is not None:
        options["controls"] = [painter.controls.images[0]]
    return cost.measure(painter.pipe, remedy, prompt, pairs=pairs, **options)
