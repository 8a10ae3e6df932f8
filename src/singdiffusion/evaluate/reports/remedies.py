"""``evaluate remedies`` as a report: every remedy that a model can have, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..brightness import MOST_SHOWN, PromptBrightness
from ..metrics.cost import Cost
from ..real import Real
from ..remedies import Absent
from ..scores import Scores
from .brightness import shown_notes
from .document import Document, Table, provenance
from .pictures import rows
from .scores import distance_name, looks, number, score_notes, text_score


def remedies_document(
    scores: Sequence[Scores],
    measured: Sequence[PromptBrightness],
    misses: Mapping[str, float | None],
    costs: Mapping[str, Cost],
    absent: Sequence[Absent],
    real: Real,
    settings: dict[str, Any],
    notes: Sequence[str],
) -> Document:
    """Return the report: what each remedy does, and what it costs.

    Args:
        scores: on captions, per remedy.
        measured: brightness on prompts, per remedy.
        misses, costs: by the remedy's name.
        absent: remedies that could not be measured.
        settings: of the command; "prompts" maps each prompt's id to its text.
    """
    lines = score_notes(scores, real, [*notes, *shown_notes(len(settings["prompts"]))])
    figures = provenance("evaluate remedies") | {
        "settings": settings,
        "results": [_result(each, measured, misses, costs) for each in scores],
        "absent": [{"remedy": a.name, "title": a.title, "needs": a.needs, "reason": a.reason} for a in absent],
        "notes": lines,
    }
    prompts = [
        (f"“{prompt}”", rows([(each.remedy.title, each.shown[id]) for each in measured], [prompt]))
        for id, prompt in list(settings["prompts"].items())[:MOST_SHOWN]
    ]
    return Document(
        "Remedies for the wrong start, side by side",
        "The same model, prompts and seeds, with every start of sampling that the model can have.",
        figures,
        [_table(scores, misses, costs, absent)],
        [*prompts, (f"Captions, guidance {scores[0].guidance_scale:g}", looks(scores, real))],
        [*(f"{each.title} is not in the table: {each.reason}" for each in absent), *lines],
    )


def _table(
    scores: Sequence[Scores],
    misses: Mapping[str, float | None],
    costs: Mapping[str, Cost],
    absent: Sequence[Absent],
) -> Table:
    first = scores[0]
    heads = ["remedy", "brightness miss", *(distance_name(found) for found in first.fidelity)]
    heads += [first.text.label] if first.text else []
    heads += ["brightness distance", "time over without", "extra MiB", "needs trained"]
    cells = []
    for each in scores:
        cost = costs.get(each.remedy.name)  # ``off`` has none
        cells.append(
            [
                each.remedy.title,
                number(misses[each.remedy.name], 1),
                *(f"{found.frechet:.4g}" for found in each.fidelity),
                *([text_score(each)] if first.text else []),
                number(each.brightness_distance, 1),
                number(1.0 if cost is None else cost.ratio, 3),
                number(0.0 if cost is None else cost.mib, 1),
                each.remedy.needs,
            ]
        )
    cells += [[each.title, *["–"] * (len(heads) - 2), each.needs] for each in absent]
    title = f"{first.model}: {first.pictures:,} pictures of captions, guidance {first.guidance_scale:g}"
    return Table(heads, cells, title)


def _result(
    each: Scores,
    measured: Sequence[PromptBrightness],
    misses: Mapping[str, float | None],
    costs: Mapping[str, Cost],
) -> dict[str, Any]:
    name = each.remedy.name
    on_prompts = next(one for one in measured if one.remedy.name == name)
    return each.as_json() | {
        "miss": misses[name],
        "needs": each.remedy.needs,
        "cost": costs[name].as_json() if name in costs else None,
        "prompts": {id: found.as_json() for id, found in on_prompts.found.items()},
    }
