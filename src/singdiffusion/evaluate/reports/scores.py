"""Scores as tables, pages and figures: ``evaluate fidelity``, ``evaluate pareto``, ``evaluate remedies``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import plots
from ..metrics.cost import Cost
from ..metrics.pareto import Curve, Verdict, compare, figure
from ..remedies import Absent
from ..scores import Real, Scores
from .brightness import Column
from .document import Document, Table, pictures, plot, provenance

NOT_FID = (
    "A Fréchet distance is an FID, and a picture-text score a CLIP score, only where it is called so: on the features of Inception, and by a CLIP model. "
    "The others are named after their network, and can be compared within one table only."
)


def fidelity_table(scores: Sequence[Scores], title: str, changes: bool = True) -> Table:
    """A row a remedy and guidance scale; a distance with its change against ``off`` at the same scale, where that is there."""
    first = scores[0]
    several_models = len({each.model for each in scores}) > 1
    several_scales = len({each.guidance for each in scores}) > 1
    columns = ["start", *(_short(f.title, f.extractor) for f in first.fidelity), "KID x 1000", "precision", "recall"]
    columns += [first.text.label] if first.text else []
    columns += ["grey", "brightness distance"]
    rows = []
    for each in scores:
        name = [each.model] if several_models else []
        name += [f"guidance {each.guidance:g}"] if several_scales else []
        off = next(
            (o for o in scores if (o.model, o.guidance, o.remedy.name) == (each.model, each.guidance, "off")), None
        )
        distances = [
            _changed(found.frechet, None if off is None or off is each or not changes else off.fidelity[i].frechet)
            for i, found in enumerate(each.fidelity)
        ]
        kept = each.fidelity[-1]
        rows.append(
            [
                ", ".join([*name, each.remedy.title]),
                *distances,
                _number(None if kept.kernel is None else 1000 * kept.kernel, 1),
                _number(kept.precision, 2),
                _number(kept.recall, 2),
                *([_number(each.text.score if each.text else None, 2)] if first.text else []),
                f"{each.grey:.0f} ± {each.grey_std:.0f}",
                _number(each.brightness_distance, 1),
            ]
        )
    return Table(columns, rows, title)


def _short(title: str, extractor: str) -> str:
    return title if title == "FID" else f"{title}, {extractor.partition(',')[0]}"


def _changed(value: float, before: float | None) -> str:
    if before is None or before == 0:
        return f"{value:.4g}"
    return f"{value:.4g} ({100 * (value / before - 1):+.0f} %)"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _notes(scores: Sequence[Scores], real: Real, more: Sequence[str]) -> list[str]:
    """Each thing that a reader must know, once."""
    lines = [*more, *real.notes]
    for each in scores:
        for found in each.fidelity:
            lines += found.warnings
        if each.text is not None and each.text.truncated:
            lines.append(
                f"{each.text.truncated} of {each.text.pictures} captions are longer than the score's text encoder reads and were cut"
            )
    kept = scores[0].fidelity[-1]
    lines.append(f"KID, precision and recall on features of {kept.extractor}")
    for found in scores[0].fidelity:
        lines.append(f"{found.extractor}: {found.protocol}")
    if scores[0].text is not None:
        lines.append(f"{scores[0].text.label}: {scores[0].text.backbone}; {scores[0].text.protocol}")
    return list(dict.fromkeys([*lines, NOT_FID]))


@plots.style()
def _greys(scores: Sequence[Scores], real: Real) -> str:
    """How bright the crowds are, as shares of pictures by their mean luma."""
    names = ["real pictures"] * (real.lumas is not None) + [each.remedy.title for each in scores]
    means = [float(real.lumas.mean())] if real.lumas is not None else []
    spreads = [float(real.lumas.std())] if real.lumas is not None else []
    means, spreads = [*means, *(each.grey for each in scores)], [*spreads, *(each.grey_std for each in scores)]
    made, axis = plots.axes("mean luma of a picture", "", height=0.7 + 0.42 * len(names))
    place = np.arange(len(names))[::-1]
    axis.barh(place, np.multiply(2, spreads), left=np.subtract(means, spreads), height=0.35, alpha=0.35)
    axis.plot(means, place, "o", color=plots.INK, markersize=4)
    for name, at in zip(names, place, strict=True):
        axis.text(2, at + 0.25, name, fontsize=plots.SMALL, va="bottom")
    axis.set(yticks=[], xlim=(0, 255), ylim=(-0.4, len(names) - 0.2))
    return plots.svg(made, outlines=False)


def _looks(scores: Sequence[Scores]) -> str:
    several = len({each.model for each in scores}) > 1
    rows = [(f"{e.model}, {e.remedy.title}" if several else e.remedy.title, e.shown) for e in scores]
    return pictures(rows, scores[0].prompts)


def _by_scale(scores: Sequence[Scores], real: Real) -> list[tuple[str, str]]:
    sections = []
    for scale in dict.fromkeys(each.guidance for each in scores):
        those = [each for each in scores if each.guidance == scale]
        content = _looks(those) + plot(_greys(those, real), "mean and spread of brightness")
        sections.append((f"Guidance {scale:g}", content))
    return sections


def fidelity_document(scores: Sequence[Scores], real: Real, settings: dict[str, Any], notes: Sequence[str]) -> Document:
    """``evaluate fidelity``."""
    notes = _notes(scores, real, notes)
    figures = provenance("evaluate fidelity") | {
        "settings": settings,
        "results": [each.as_json() for each in scores],
        "notes": notes,
    }
    title = f"{scores[0].pictures:,} pictures each, the same captions and seeds"
    return Document(
        "Fidelity, without and with",
        "How far generated pictures are from real ones as a crowd, how well they fit their captions, and how bright they are.",
        figures,
        [fidelity_table(scores, title)],
        _by_scale(scores, real),
        notes,
    )


# -- the curve over guidance ------------------------------------------------------------------------------------------


def curves(scores: Sequence[Scores], extractor: int) -> list[Curve]:
    """A curve a model and remedy, on one extractor's distance."""
    several = len({each.model for each in scores}) > 1
    made = []
    for model, name in dict.fromkeys((each.model, each.remedy.name) for each in scores):
        those = sorted(
            (each for each in scores if (each.model, each.remedy.name) == (model, name)), key=lambda each: each.guidance
        )
        title = those[0].remedy.title
        made.append(
            Curve(
                f"{model}, {title}" if several else title,
                tuple(each.guidance for each in those),
                tuple(each.text.score for each in those),  # type: ignore[union-attr]
                tuple(each.fidelity[extractor].frechet for each in those),
            )
        )
    return made


def pareto_document(
    scores: Sequence[Scores], real: Real, settings: dict[str, Any], notes: Sequence[str], behind: str | None = None
) -> Document:
    """``evaluate pareto``: a curve an extractor, and where SingDiffusion's is better."""
    notes = _notes(scores, real, notes)
    text = scores[0].text
    assert text is not None
    sections, verdicts, files = [], [], {}
    for i, found in enumerate(scores[0].fidelity):
        every = curves(scores, i)
        name = _short(found.title, found.extractor)
        drawn = figure(every, text.label, name, behind)
        files |= {f"pareto-{i}{suffix}": content for suffix, content in plots.files(drawn).items()}
        sections.append((name, plot(plots.svg(drawn, outlines=False), f"{name} over {text.label}")))
        verdicts += [(name, ours, compare(ours, off)) for ours, off in _pairs(every, scores)]
    figures = provenance("evaluate pareto") | {
        "settings": settings,
        "results": [each.as_json() for each in scores],
        "verdicts": [_verdict(name, ours, found) for name, ours, found in verdicts],
        "notes": notes,
    }
    words = [f"{name}: {ours.name}: {found}" for name, ours, found in verdicts]
    rows = [[name, ours.name, str(found)] for name, ours, found in verdicts]
    return Document(
        "Text score against distance, over the guidance scale",
        "Each point is a guidance scale: to the right pictures fit their captions better, below they are nearer to real ones. A curve is better than another at a "
        "text score if it reaches at least this score at a smaller distance.",
        figures,
        [
            fidelity_table(
                scores, f"{scores[0].pictures:,} pictures a point, the same captions and seeds", changes=False
            ),
            Table(["distance", "curve", "against the model without it"], rows),
        ],
        [*sections, *_by_scale([each for each in scores if each.guidance in _ends(scores)], real)],
        [*words, *notes],
        files,
    )


def _ends(scores: Sequence[Scores]) -> tuple[float, float]:
    scales = [each.guidance for each in scores]
    return min(scales), max(scales)


def _pairs(every: Sequence[Curve], scores: Sequence[Scores]) -> list[tuple[Curve, Curve]]:
    """Each curve with that of its own model without a remedy."""
    keys = list(dict.fromkeys((each.model, each.remedy.name) for each in scores))
    off = {model: curve for (model, name), curve in zip(keys, every, strict=True) if name == "off"}
    return [
        (curve, off[model]) for (model, name), curve in zip(keys, every, strict=True) if name != "off" and model in off
    ]


def _verdict(name: str, ours: Curve, found: Verdict) -> dict[str, Any]:
    return {
        "distance": name,
        "curve": ours.name,
        "share": found.share,
        "worse": [list(each) for each in found.worse],
        "gain": found.gain,
    }


# -- all remedies -----------------------------------------------------------------------------------------------------


def remedies_document(
    scores: Sequence[Scores],
    columns: Sequence[Column],
    misses: dict[str, float | None],
    costs: dict[str, Cost],
    absent: Sequence[Absent],
    real: Real,
    settings: dict[str, Any],
    notes: Sequence[str],
) -> Document:
    """``evaluate remedies``: what each does and costs.

    Args:
        columns: brightness on the prompts, a column a remedy.
        misses, costs: by the remedy's name.
    """
    notes = _notes(scores, real, notes)
    text = scores[0].text
    heads = ["remedy", "brightness miss", *(_short(f.title, f.extractor) for f in scores[0].fidelity)]
    heads += [text.label] if text else []
    heads += ["brightness distance", "time over without", "MiB held", "needs trained"]
    rows = []
    for each in scores:
        name = each.remedy.name
        cost = costs.get(name)  # none of ``off`` itself
        rows.append(
            [
                each.remedy.title,
                _number(misses[name], 1),
                *(f"{found.frechet:.4g}" for found in each.fidelity),
                *([_number(each.text.score if each.text else None, 2)] if text else []),
                _number(each.brightness_distance, 1),
                _number(1.0 if cost is None else cost.ratio, 3),
                _number(0.0 if cost is None else cost.mib, 1),
                each.remedy.needs,
            ]
        )
    rows += [[each.title, *["–"] * (len(heads) - 2), each.needs] for each in absent]
    figures = provenance("evaluate remedies") | {
        "settings": settings,
        "results": [
            each.as_json()
            | {
                "miss": misses[each.remedy.name],
                "needs": each.remedy.needs,
                "cost": costs[each.remedy.name].as_json() if each.remedy.name in costs else None,
                "prompts": {id: found.as_json() for id, found in _column(columns, each.remedy.name).found.items()},
            }
            for each in scores
        ],
        "absent": [{"remedy": a.name, "title": a.title, "needs": a.needs, "reason": a.reason} for a in absent],
        "notes": notes,
    }
    prompts = [
        (f"“{prompt}”", pictures([(c.remedy.title, c.shown[id]) for c in columns], [prompt]))
        for id, prompt in settings["prompts"].items()
    ]
    crowd = (
        f"Captions, guidance {scores[0].guidance:g}",
        _looks(scores) + plot(_greys(scores, real), "brightness"),
    )
    return Document(
        "Remedies for the wrong start, side by side",
        "The same model, prompts and seeds, started in every way that is available for it.",
        figures,
        [
            Table(
                heads,
                rows,
                f"{scores[0].model}: {scores[0].pictures:,} pictures of captions, guidance {scores[0].guidance:g}",
            )
        ],
        [*prompts, crowd],
        [*(f"{each.title}: left out, {each.reason}" for each in absent), *notes],
    )


def _column(columns: Sequence[Column], name: str) -> Column:
    return next(column for column in columns if column.remedy.name == name)
