"""``evaluate brightness`` as a report: mean luma, spread, interval and histogram per prompt, with the same seeds for all remedies.

It is table 1 of Zhang, Yin, Li, Xie, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR 2024
(arXiv 2403.08381), for any models, remedies and prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...painting.prompts import Prompt
from ..brightness import MOST_SHOWN, PromptBrightness, miss
from ..metrics.brightness import Brightness
from .document import Document, Table, provenance
from .histogram import Series, histogram, legend
from .pictures import rows
from .style import series

INTRO = (
    "Mean luma of the pictures of each prompt, 0 black to 255 white, with the same seeds in every column. Without a remedy sampling "
    "starts from the wrong noise, and every picture is pulled to average grey."
)


def document(
    measured: Sequence[PromptBrightness],
    prompts: Sequence[Prompt],
    real: dict[str, dict[str, float]],
    settings: dict[str, Any],
    notes: Sequence[str],
) -> Document:
    """Return the report.

    Args:
        measured: per model and remedy.
        real: model -> prompt id -> mean luma of real pictures, where it is known.
        settings: of the command.
        notes: for the reader.
    """
    misses = [miss(each.found, real.get(each.model, {})) for each in measured]
    models = list(dict.fromkeys(each.model for each in measured))
    tables = [] if len(models) == 1 else [_overview(measured, prompts, misses)]
    tables += [_table(model, measured, prompts, real.get(model, {}), misses) for model in models]
    sections = [
        (f"“{prompt.text}”", section(prompt, measured, labels(measured), _real_values(prompt, real)))
        for prompt in prompts[:MOST_SHOWN]
    ]
    notes = [*notes, *shown_notes(len(prompts))]
    figures = provenance("evaluate brightness") | {
        "settings": settings,
        "real": real,
        "results": _results(measured, prompts),
        "summary": [
            {"model": each.model, "remedy": each.remedy.name, "miss": missed, "settings": each.settings}
            for each, missed in zip(measured, misses, strict=True)
        ],
        "notes": notes,
    }
    return Document("Brightness, with and without SingDiffusion", INTRO, figures, tables, sections, notes)


def shown_notes(prompts: int) -> list[str]:
    """Return a line about the prompts whose pictures are not shown; no line where there are none."""
    if prompts <= MOST_SHOWN:
        return []
    return [f"pictures of the first {MOST_SHOWN} of {prompts} prompts are shown; all figures are in figures.json"]


def _results(measured: Sequence[PromptBrightness], prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    return [
        {"model": each.model, "remedy": each.remedy.name, "title": each.remedy.title}
        | {"id": prompt.id, "prompt": prompt.text}
        | each.found[prompt.id].as_json()
        for each in measured
        for prompt in prompts
    ]


def labels(measured: Sequence[PromptBrightness]) -> list[str]:
    """Return the remedies' titles, with the model where there are several."""
    several = len({each.model for each in measured}) > 1
    return [f"{each.model}, {each.remedy.title}" if several else each.remedy.title for each in measured]


def _real_values(prompt: Prompt, real: dict[str, dict[str, float]]) -> list[float]:
    return list({known[prompt.id] for known in real.values() if prompt.id in known})


# -- tables -----------------------------------------------------------------------------------------------------------


def spread(mean: float, std: float) -> str:
    """Return a mean and its standard deviation as text."""
    return f"{mean:.1f} ± {std:.1f}"


def _with_interval(found: Brightness) -> str:
    interval = "" if found.interval is None else f" [{found.interval[0]:.1f}, {found.interval[1]:.1f}]"
    return spread(found.mean, found.std) + interval


def _totals(misses: Iterable[float | None]) -> list[str]:
    return ["–" if total is None else f"{total:.1f}" for total in misses]


def _overview(measured: Sequence[PromptBrightness], prompts: Sequence[Prompt], misses: Sequence[float | None]) -> Table:
    """All models in one table, as in the paper."""
    heads = [f"{each.model}: {each.remedy.title}" for each in measured]
    cells = [
        [prompt.text, *(spread(each.found[prompt.id].mean, each.found[prompt.id].std) for each in measured)]
        for prompt in prompts
    ]
    if any(total is not None for total in misses):
        cells.append(["summed miss", *_totals(misses)])
    return Table(["prompt", *heads], cells, "All models: mean luma ± standard deviation over pictures")


def _table(
    model: str,
    measured: Sequence[PromptBrightness],
    prompts: Sequence[Prompt],
    real: dict[str, float],
    misses: Sequence[float | None],
) -> Table:
    """Mean ± spread [interval] of one model, a row per prompt and a last one for the summed miss."""
    of_model = [(each, missed) for each, missed in zip(measured, misses, strict=True) if each.model == model]
    with_real = any(prompt.id in real for prompt in prompts)
    cells = []
    for prompt in prompts:
        known = [f"{real[prompt.id]:.1f}" if prompt.id in real else "–"] if with_real else []
        cells.append([prompt.text, *known, *(_with_interval(each.found[prompt.id]) for each, _ in of_model)])
    if with_real:
        cells.append(["summed miss", "", *_totals(missed for _, missed in of_model)])
    heads = ["prompt", *(["real pictures"] if with_real else []), *(each.remedy.title for each, _ in of_model)]
    return Table(heads, cells, f"{model}: mean luma ± standard deviation over pictures [95 % interval of the mean]")


# -- a prompt on the page ---------------------------------------------------------------------------------------------


def section(prompt: Prompt, measured: Sequence[PromptBrightness], titles: Sequence[str], real: Sequence[float]) -> str:
    """Return HTML with the first pictures of a prompt, and the histogram of all of them.

    Args:
        titles: per entry of ``measured``.
        real: mean lumas of real pictures of the prompt, 0..255.
    """
    pictures = rows(
        [(title, each.shown[prompt.id]) for title, each in zip(titles, measured, strict=True)], [prompt.text]
    )
    curves = [
        Series(title, each.found[prompt.id].histogram, series(i))
        for i, (title, each) in enumerate(zip(titles, measured, strict=True))
    ]
    return pictures + histogram(prompt.text, curves, real) + legend(curves, bool(real))
