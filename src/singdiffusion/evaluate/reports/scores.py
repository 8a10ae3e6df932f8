"""What the reports of ``evaluate fidelity``, ``pareto`` and ``remedies`` have in common: the table of scores, notes, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import plots
from ..metrics.fidelity import Fidelity
from ..real import Real
from ..scores import Scores
from .document import Table, plot
from .pictures import rows

NOT_FID = (
    "A Fréchet distance is an FID only on the features of Inception, and a picture-text score is a CLIP score only by a published CLIP model; "
    "they are named so then. The others are named after their network. Compare them within one table only."
)


def number(value: float | None, digits: int) -> str:
    """Return a number as text, a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def distance_name(found: Fidelity) -> str:
    """Return "FID", or the distance with the name of its network."""
    return found.title if found.title == "FID" else f"{found.title}, {found.extractor.partition(',')[0]}"


def text_score(each: Scores) -> str:
    """Return the score of pictures with their captions as text."""
    return number(None if each.text is None else each.text.score, 2)


def scores_table(scores: Sequence[Scores], title: str, changes: bool = True) -> Table:
    """Return a row per remedy and guidance scale.

    Args:
        changes: whether each distance is followed by its change against ``off`` at the same scale.
    """
    first = scores[0]
    columns = ["start", *(distance_name(each) for each in first.fidelity), "KID x 1000", "precision", "recall"]
    columns += [first.text.label] if first.text else []
    columns += ["mean luma", "brightness distance"]
    starts = _starts(scores)
    cells = []
    for start, each in zip(starts, scores, strict=True):
        off = next((other for other in scores if _is_off(other, each)), None) if changes else None
        before = [None] * len(each.fidelity) if off is None or off is each else [f.frechet for f in off.fidelity]
        last = each.fidelity[-1]
        cells.append(
            [
                start,
                *(_changed(found.frechet, value) for found, value in zip(each.fidelity, before, strict=True)),
                number(None if last.kernel is None else 1000 * last.kernel, 1),
                number(last.precision, 2),
                number(last.recall, 2),
                *([text_score(each)] if first.text else []),
                f"{each.mean_luma:.0f} ± {each.mean_luma_std:.0f}",
                number(each.brightness_distance, 1),
            ]
        )
    return Table(columns, cells, title)


def _starts(scores: Sequence[Scores]) -> list[str]:
    """Names of the rows; model and guidance scale are in them where there are several."""
    several_models = len({each.model for each in scores}) > 1
    several_scales = len({each.guidance_scale for each in scores}) > 1
    names = []
    for each in scores:
        model = [each.model] if several_models else []
        scale = [f"guidance {each.guidance_scale:g}"] if several_scales else []
        names.append(", ".join([*model, *scale, each.remedy.title]))
    return names


def _is_off(other: Scores, each: Scores) -> bool:
    key = (other.model, other.guidance_scale, other.remedy.name)
    return key == (each.model, each.guidance_scale, "off")


def _changed(value: float, before: float | None) -> str:
    if before is None or before == 0:
        return f"{value:.4g}"
    return f"{value:.4g} ({100 * (value / before - 1):+.0f} %)"


def score_notes(scores: Sequence[Scores], real: Real, more: Sequence[str]) -> list[str]:
    """Return everything that a reader of the scores must know, each line once."""
    lines = [*more, *real.notes]
    for each in scores:
        for found in each.fidelity:
            lines += found.warnings
        if each.text is not None and each.text.truncated:
            lines.append(
                f"{each.text.truncated} of {each.text.pictures} captions are longer than the score's text encoder reads and were cut"
            )
    first = scores[0]
    lines.append(f"KID, precision and recall on features of {first.fidelity[-1].extractor}")
    lines += [f"{found.extractor}: {found.protocol}" for found in first.fidelity]
    if first.text is not None:
        lines.append(f"{first.text.label}: {first.text.backbone}; {first.text.protocol}")
    return list(dict.fromkeys([*lines, NOT_FID]))


def looks(scores: Sequence[Scores], real: Real) -> str:
    """Return HTML with the first pictures of each row, and a plot of how bright all pictures are."""
    several = len({each.model for each in scores}) > 1
    labelled = [(f"{e.model}, {e.remedy.title}" if several else e.remedy.title, e.shown) for e in scores]
    return rows(labelled, scores[0].prompts) + plot(_brightness(scores, real), "mean and spread of brightness")


def looks_by_scale(scores: Sequence[Scores], real: Real) -> list[tuple[str, str]]:
    """Return a section of a page per guidance scale."""
    scales = dict.fromkeys(each.guidance_scale for each in scores)
    return [
        (f"Guidance {scale:g}", looks([each for each in scores if each.guidance_scale == scale], real))
        for scale in scales
    ]


@plots.style()
def _brightness(scores: Sequence[Scores], real: Real) -> str:
    """SVG: mean luma of the pictures of each row, and its standard deviation to both sides."""
    rows_of_plot: list[tuple[str, float, float]] = [(e.remedy.title, e.mean_luma, e.mean_luma_std) for e in scores]
    if real.mean_lumas is not None:
        rows_of_plot.insert(0, ("real pictures", float(real.mean_lumas.mean()), float(real.mean_lumas.std())))
    names, means, spreads = zip(*rows_of_plot, strict=True)
    made, axis = plots.axes("mean luma of a picture", "", height=0.7 + 0.42 * len(names))
    place = np.arange(len(names))[::-1]
    axis.barh(place, np.multiply(2, spreads), left=np.subtract(means, spreads), height=0.35, alpha=0.35)
    axis.plot(means, place, "o", color=plots.INK, markersize=4)
    for name, at in zip(names, place, strict=True):
        axis.text(2, at + 0.25, plots.plain(name), fontsize=plots.SMALL, va="bottom")
    axis.set(yticks=[], xlim=(0, 255), ylim=(-0.4, len(names) - 0.2))
    return plots.svg(made, outlines=False)


def results(scores: Sequence[Scores]) -> list[dict[str, Any]]:
    """Return the figures of every row."""
    return [each.as_json() for each in scores]
