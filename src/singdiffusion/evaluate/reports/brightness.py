"""[SD] table 1 for any models, remedies and prompts: mean grey, spread, interval and histogram a prompt, the same seeds for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ... import plots
from ...painting.luma import BINS, histogram, lumas
from ...painting.prompts import Prompt
from ..gallery import Gallery, Job, jobs_of_prompts
from ..metrics.brightness import Brightness
from ..painter import Painter
from ..processes import Processes
from ..remedies import Remedy
from .document import SHOWN, Document, Table, pictures, plot, provenance

READ = 64  # pictures in memory at once


@dataclass(frozen=True)
class Column:
    """One remedy on one model: prompt id -> brightness, and a few pictures to look at."""

    model: str
    remedy: Remedy
    found: dict[str, Brightness]
    shown: dict[str, list[Image.Image]]
    settings: dict[str, Any]


def measure(
    painter: Painter,
    remedies: Sequence[Remedy],
    prompts: Sequence[Prompt],
    pictures: int,
    seed: int,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Column]:
    """Paint what is missing and measure it: a column a remedy.

    Args:
        painter: the model.
        pictures: of each prompt, with seeds counted up from ``seed``, the same for all prompts and remedies.
        advance: told how many pictures are done.
    """
    jobs = jobs_of_prompts(prompts, pictures, seed)
    columns = []
    for remedy in remedies:
        gallery = painter.paint(remedy, jobs, advance=advance)
        found = brightness_of(gallery, jobs, painter.processes)
        shown = {
            prompt.id: [gallery.read(job) for job in jobs_of_prompts([prompt], min(pictures, SHOWN), seed)]
            for prompt in prompts
        }
        columns.append(Column(painter.model, remedy, found, shown, gallery.settings))
    return columns


def brightness_of(gallery: Gallery, jobs: Sequence[Job], processes: Processes) -> dict[str, Brightness]:
    """Prompt id -> brightness, from the pictures on the disk; each process reads its share."""
    mine = processes.share(jobs)
    greys: list[float] = []
    counts = []
    for batch in gallery.batches(mine, READ):
        values = lumas(batch)
        greys += values.mean((1, 2)).tolist()
        counts += [histogram(picture) for picture in values]
    every = processes.gather(list(zip(greys, counts, strict=True)))
    found: dict[str, list[tuple[float, np.ndarray]]] = {}
    for job, each in zip(jobs, every, strict=True):
        found.setdefault(job.prompt.id, []).append(each)
    return {
        id: Brightness.of([grey for grey, _ in each], np.sum([count for _, count in each], axis=0))
        for id, each in found.items()
    }


def miss(found: dict[str, Brightness], real: dict[str, float]) -> float | None:
    """How far the mean greys are from real pictures', summed over the prompts; None where one is not known."""
    if not set(found) <= set(real):
        return None
    return sum(abs(each.mean - real[id]) for id, each in found.items())


def document(
    columns: Sequence[Column],
    prompts: Sequence[Prompt],
    real: dict[str, dict[str, float]],
    settings: dict[str, Any],
    notes: list[str],
) -> Document:
    """What was measured, as page, figures and table.

    Args:
        real: model -> prompt id -> mean grey of real pictures, where it is known.
    """
    summed = {id(column): miss(column.found, real.get(column.model, {})) for column in columns}
    figures = provenance("evaluate brightness") | {
        "settings": settings,
        "real": real,
        "results": [
            {
                "model": column.model,
                "remedy": column.remedy.name,
                "title": column.remedy.title,
                "id": prompt.id,
                "prompt": prompt.text,
            }
            | column.found[prompt.id].as_json()
            for column in columns
            for prompt in prompts
        ],
        "summary": [
            {
                "model": column.model,
                "remedy": column.remedy.name,
                "miss": summed[id(column)],
                "settings": column.settings,
            }
            for column in columns
        ],
        "notes": notes,
    }
    models = list(dict.fromkeys(column.model for column in columns))
    tables = [] if len(models) == 1 else [_overview(columns, prompts, summed)]
    for model in models:
        those = [column for column in columns if column.model == model]
        tables.append(_table(model, those, prompts, real.get(model, {}), summed))
    sections = [(f"“{prompt.text}”", _section(prompt, columns, real)) for prompt in prompts[:MOST_SECTIONS]]
    if len(prompts) > MOST_SECTIONS:
        notes = [
            *notes,
            f"pictures of the first {MOST_SECTIONS} of {len(prompts)} prompts are shown; all figures are in figures.json",
        ]
    return Document(
        "Brightness, without and with",
        "Mean grey of the pictures of each prompt, 0 black to 255 white, with the same seeds in every column. Without a remedy sampling "
        "starts from the wrong noise, and every picture is pulled to average grey.",
        figures,
        tables,
        sections,
        notes,
    )


MOST_SECTIONS = 40


def _overview(columns: Sequence[Column], prompts: Sequence[Prompt], summed: dict[int, float | None]) -> Table:
    """All models in one table, as [SD] table 1."""
    heads = [f"{column.model}: {column.remedy.title}" for column in columns]
    rows = [
        [prompt.text, *(f"{c.found[prompt.id].mean:.1f} ± {c.found[prompt.id].std:.1f}" for c in columns)]
        for prompt in prompts
    ]
    totals = [summed[id(column)] for column in columns]
    if any(total is not None for total in totals):
        rows.append(["summed miss", *("–" if total is None else f"{total:.1f}" for total in totals)])
    return Table(["prompt", *heads], rows, "All models: mean grey ± standard deviation over pictures")


def _table(
    model: str,
    columns: Sequence[Column],
    prompts: Sequence[Prompt],
    real: dict[str, float],
    summed: dict[int, float | None],
) -> Table:
    """Mean ± spread [interval], a row a prompt and a last one for the summed miss."""
    with_real = any(prompt.id in real for prompt in prompts)
    rows = []
    for prompt in prompts:
        cells = [f"{real[prompt.id]:.1f}" if prompt.id in real else "–"] if with_real else []
        rows.append([prompt.text, *cells, *(_cell(column.found[prompt.id]) for column in columns)])
    if with_real:
        totals = [summed[id(column)] for column in columns]
        rows.append(["summed miss", "", *("–" if total is None else f"{total:.1f}" for total in totals)])
    title = f"{model}: mean grey ± standard deviation over pictures [95 % interval of the mean]"
    return Table(["prompt", *(["real pictures"] if with_real else []), *(c.remedy.title for c in columns)], rows, title)


def _cell(found: Brightness) -> str:
    interval = "" if found.interval is None else f" [{found.interval[0]:.1f}, {found.interval[1]:.1f}]"
    return f"{found.mean:.1f} ± {found.std:.1f}{interval}"


def _section(prompt: Prompt, columns: Sequence[Column], real: dict[str, dict[str, float]]) -> str:
    several = len({column.model for column in columns}) > 1
    label = lambda c: f"{c.model}, {c.remedy.title}" if several else c.remedy.title  # noqa: E731
    rows = [(label(column), column.shown[prompt.id]) for column in columns]
    return pictures(rows, [prompt.text]) + plot(
        _histograms(prompt, columns, label, real), f"histogram of brightness for {prompt.text}"
    )


@plots.style()
def _histograms(
    prompt: Prompt, columns: Sequence[Column], label: Callable[[Column], str], real: dict[str, dict[str, float]]
) -> str:
    """SVG: share of pixels by luma, a line a column; real pictures' mean dashed."""
    figure, axis = plots.axes("luma", "share of pixels", height=2.8)
    edges = np.linspace(0, 255, BINS + 1)
    for column in columns:
        axis.stairs(column.found[prompt.id].histogram, edges, label=label(column), linewidth=1.6)
    for i, value in enumerate({models[prompt.id] for models in real.values() if prompt.id in models}):
        words = None if i else "mean of real pictures"
        axis.axvline(value, color=plots.REAL, linestyle="--", linewidth=1.4, label=words)
    axis.set_yscale("function", functions=(np.sqrt, np.square))  # small shares stay visible
    axis.set_xlim(0, 255)
    figure.legend(loc="outside lower center")
    return plots.svg(figure, outlines=False)
