"""``evaluate fidelity`` as a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..real import Real
from ..scores import Scores
from .document import Document, provenance
from .scores import looks_by_scale, results, score_notes, scores_table


def fidelity_document(scores: Sequence[Scores], real: Real, settings: dict[str, Any], notes: Sequence[str]) -> Document:
    """Return the report: distances, text scores and brightness, per model, remedy and guidance scale."""
    lines = score_notes(scores, real, notes)
    figures = provenance("evaluate fidelity") | {"settings": settings, "results": results(scores), "notes": lines}
    title = f"{scores[0].pictures:,} pictures each, the same captions and seeds"
    return Document(
        "Fidelity, with and without SingDiffusion",
        "How far generated pictures are from real ones, how well they fit their captions, and how bright they are.",
        figures,
        [scores_table(scores, title)],
        looks_by_scale(scores, real),
        lines,
    )
