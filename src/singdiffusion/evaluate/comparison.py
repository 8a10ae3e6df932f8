"""All remedies on one model, with the same prompts, captions and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import tiny
from ..painting.prompts import Prompt
from .gallery import Job
from .metrics import cost
from .metrics.text_score import PictureTextScore
from .painter import Painter
from .remedies import Remedy, available
from .reports import brightness as brightness_table
from .reports.document import Document
from .reports.scores import remedies_document
from .scores import Real, score
from .selection import real_greys, truncation_notes


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
    colours: Sequence[str],
    one_more_step: str | None,
    pairs: int,
    seed: int,
    settings: dict[str, Any],
    advance: Callable[[int], None],
) -> tuple[Document, int]:
    """Brightness on prompts, distance and text score on captions, time and memory, of every remedy that the model can have.

    Args:
        pictures: a prompt.
        jobs: captions.
        pairs: pictures without and with, for the time; each process measures its own, the first one's are told.

    Returns:
        The report, and how many pictures it rests on.
    """
    model, guidance = painter.model, painter.options["guidance_scale"]
    remedies, absent = available(
        painter.pipe,
        modules,
        embedded=model in tiny.MODELS,
        statistics=statistics,
        colours=colours,
        one_more_step=one_more_step,
    )
    columns = brightness_table.measure(painter, remedies, prompts, pictures, seed, advance)
    scores = [score(painter, remedy, jobs, guidance, real, text, advance) for remedy in remedies]
    known = real_greys(model, prompts)
    costs = {remedy.name: _cost(painter, remedy, prompts[0].text, pairs) for remedy in remedies if remedy.name != "off"}
    document = remedies_document(
        scores,
        columns,
        {column.remedy.name: brightness_table.miss(column.found, known) for column in columns},
        costs,
        absent,
        real,
        settings,
        truncation_notes(painter.pipe, prompts),
    )
    return document, len(remedies) * (len(prompts) * pictures + len(jobs))


def _cost(painter: Painter, remedy: Remedy, prompt: str, pairs: int) -> cost.Cost:
    options: dict[str, Any] = dict(painter.options)
    if painter.controls is not None:
        options["controls"] = [painter.controls.images[0]]
    return cost.measure(painter.pipe, remedy, prompt, pairs=pairs, negative_prompt=painter.negative, **options)
