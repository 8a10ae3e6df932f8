"""``evaluate pareto`` as a report: the curve of text score against distance over the guidance scale, drawn and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import plots
from ...errors import SingDiffusionError
from ..metrics.pareto import Curve, Verdict, compare
from ..real import Real
from ..scores import Scores
from . import paper
from .document import Document, Table, plot, provenance
from .scores import distance_name, looks_by_scale, results, score_notes, scores_table

INTRO = (
    "Each point is a guidance scale: pictures further right fit their captions better, pictures further down are nearer to real ones. At a "
    "text score a curve is better than another if it reaches at least this score at a smaller distance."
)


def check_behind(behind: str | None) -> None:
    """Check the name of published curves.

    Raises:
        SingDiffusionError: there are no such curves.
    """
    if behind is not None and behind not in paper.PARETO:
        raise SingDiffusionError(
            f"no published curve of {behind!r}; known: {', '.join(paper.PARETO)}", setting="behind"
        )


@plots.style()
def figure(curves: Sequence[Curve], text_label: str, distance_label: str, behind: str | None = None) -> object:
    """Draw the curves, each point with its guidance scale, and return matplotlib's figure.

    Args:
        behind: a key of ``paper.PARETO``; the authors' curves are drawn behind, with a note that they were read off a plot.

    Raises:
        SingDiffusionError: there are no such published curves.
    """
    check_behind(behind)
    made, axis = plots.axes(plots.plain(text_label), "", height=4.0)
    axis.set_title(plots.plain(distance_label), loc="left")
    for key, points in paper.PARETO[behind].items() if behind else ():
        words = "without" if key == "off" else "with SingDiffusion"
        x, y = zip(*points, strict=True)
        axis.plot(x, y, color=plots.REAL, alpha=0.7, linestyle="--" if key == "off" else "-", marker=".", linewidth=1.2,
                  label=f"{behind} {words}, {paper.SOURCE}", zorder=1)  # fmt: skip
    lines = [axis.plot(curve.text, curve.distance, marker="o", label=plots.plain(curve.name))[0] for curve in curves]
    _name_scales(axis, curves, [line.get_color() for line in lines])
    made.legend(loc="outside lower center")
    return made


def _name_scales(axis: Any, curves: Sequence[Curve], colors: Sequence[str]) -> None:
    """Write the guidance scales at the points of the curves; one that would cover another is left out."""
    axis.autoscale_view()
    written = np.full((1, 2), np.inf)
    for curve, color in zip(curves, colors, strict=True):
        for scale, *point in zip(curve.scales, curve.text, curve.distance, strict=True):
            place = axis.transData.transform(point) / axis.figure.dpi * 72  # points
            if np.linalg.norm(written - place, axis=1).min() > 1.6 * plots.SMALL:
                written = np.vstack([written, place])
                axis.annotate(
                    f"{scale:g}", point, xytext=(4, 4), textcoords="offset points", fontsize=plots.SMALL, color=color
                )


def curves_of(scores: Sequence[Scores], extractor: int) -> list[Curve]:
    """Return a curve per model and remedy, on one extractor's distance.

    Args:
        extractor: its place in ``Scores.fidelity``.
    """
    several = len({each.model for each in scores}) > 1
    made = []
    for model, name in _keys(scores):
        those = sorted(
            (each for each in scores if (each.model, each.remedy.name) == (model, name)),
            key=lambda each: each.guidance_scale,
        )
        title = those[0].remedy.title
        made.append(
            Curve(
                f"{model}, {title}" if several else title,
                tuple(each.guidance_scale for each in those),
                tuple(each.text.score for each in those),  # type: ignore[union-attr]
                tuple(each.fidelity[extractor].frechet for each in those),
            )
        )
    return made


def _keys(scores: Sequence[Scores]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((each.model, each.remedy.name) for each in scores))


def _pairs(every: Sequence[Curve], scores: Sequence[Scores]) -> list[tuple[Curve, Curve]]:
    """Each curve with that of its own model without a remedy."""
    keys = _keys(scores)
    off = {model: curve for (model, name), curve in zip(keys, every, strict=True) if name == "off"}
    return [
        (curve, off[model]) for (model, name), curve in zip(keys, every, strict=True) if name != "off" and model in off
    ]


def pareto_document(
    scores: Sequence[Scores], real: Real, settings: dict[str, Any], notes: Sequence[str], behind: str | None = None
) -> Document:
    """Return the report: a curve per extractor, and where each remedy's curve is better than the model without it.

    Args:
        scores: with text scores, at several guidance scales.
        behind: as in ``figure``.
    """
    lines = score_notes(scores, real, notes)
    text = scores[0].text
    assert text is not None
    sections, verdicts, files = [], [], {}
    for i, found in enumerate(scores[0].fidelity):
        every, name = curves_of(scores, i), distance_name(found)
        drawn = figure(every, text.label, name, behind)
        files |= {f"pareto-{i}{suffix}": content for suffix, content in plots.files(drawn).items()}
        sections.append((name, plot(plots.svg(drawn, outlines=False), f"{name} over {text.label}")))
        verdicts += [(name, ours.name, compare(ours, off)) for ours, off in _pairs(every, scores)]
    figures = provenance("evaluate pareto") | {
        "settings": settings,
        "results": results(scores),
        "verdicts": [_verdict_json(*each) for each in verdicts],
        "notes": lines,
    }
    scales = [each.guidance_scale for each in scores]
    ends = [each for each in scores if each.guidance_scale in (min(scales), max(scales))]
    title = f"{scores[0].pictures:,} pictures per point, the same captions and seeds"
    return Document(
        "Text score against distance, over the guidance scale",
        INTRO,
        figures,
        [
            scores_table(scores, title, changes=False),
            Table(["distance", "curve", "against the model without it"], [[d, c, str(v)] for d, c, v in verdicts]),
        ],
        [*sections, *looks_by_scale(ends, real)],
        [*(f"{distance}: {curve}: {found}" for distance, curve, found in verdicts), *lines],
        files,
    )


def _verdict_json(distance: str, curve: str, found: Verdict) -> dict[str, Any]:
    return {
        "distance": distance,
        "curve": curve,
        "share": found.share,
        "worse": [list(each) for each in found.worse],
        "gain": found.gain,
    }
