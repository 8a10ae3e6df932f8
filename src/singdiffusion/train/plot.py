"""Draw the loss curve of a run from its logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  # at the top: a run that cannot draw fails at its start
import numpy as np

from .. import plots
from ..files import write_whole
from .logs import read_lines

# key in validation.jsonl -> label
VALIDATION = {"loss": "held-out error", "excess": "above the best constant", "channel_mean": "channel means"}


def draw(folder: Path) -> None:
    """Write ``loss.svg``, ``loss-dark.svg`` and ``loss.png`` from ``log.jsonl`` and ``validation.jsonl``.

    With fewer than two points nothing is written.
    """
    logged, checked = read_lines(folder / "log.jsonl"), read_lines(folder / "validation.jsonl")
    if len(logged) < 2:
        return
    for suffix, content in plots.files(curves(logged, checked, folder.name)).items():
        write_whole(folder / f"loss{suffix}", content)


@plots.style()
def curves(logged: list[dict[str, Any]], checked: list[dict[str, Any]], title: str) -> Any:
    """Return the figure: the training loss, raw and smoothed, and the errors on held-out pictures.

    Args:
        logged, checked: lines of ``log.jsonl``, at least two, and of ``validation.jsonl``.
    """
    figure, axis = plots.axes("step", "", height=3.8)
    steps, losses = (np.array([row[key] for row in logged]) for key in ("step", "loss"))
    likelihood = " (with likelihood)" if any("likelihood" in row for row in checked) else ""
    plots.smoothed(axis, steps, losses, f"training loss{likelihood}", plots.REAL)
    for (key, label), color in zip(VALIDATION.items(), plots.SERIES, strict=False):
        found = [(row["step"], row[key]) for row in checked if row.get(key, 0) > 0]
        if found:
            axis.plot(*zip(*found, strict=True), color=color, marker="o", label=label)
    # a likelihood may be negative
    axis.set(yscale="log" if losses.min() > 0 else "linear", title=title)
    figure.legend(loc="outside lower center", ncols=2)
    return figure
