"""Draw the loss curve of a run from its logs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure  # at the top, so that a run without matplotlib fails at its start

from .logs import read_lines


def draw(folder: Path) -> None:
    """Write ``loss.png`` from ``log.jsonl`` and ``validation.jsonl``, if there are at least two points."""
    logged, checked = read_lines(folder / "log.jsonl"), read_lines(folder / "validation.jsonl")
    if len(logged) < 2:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps, losses = (np.array([row[key] for row in logged]) for key in ("step", "loss"))
    width = max(1, len(losses) // 40)
    axes.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(
        steps[width - 1 :],
        np.convolve(losses, np.ones(width) / width, "valid"),
        color="tab:blue",
        label="training loss" + (" (likelihood included)" if any("likelihood" in row for row in checked) else ""),
    )
    for key, label, color in (
        ("loss", "held-out error", "tab:red"),
        ("excess", "over the best constant", "tab:orange"),
        ("channel_mean", "channel means", "tab:green"),
    ):
        found = [(row["step"], row[key]) for row in checked if row.get(key, 0) > 0]
        if found:
            axes.plot(*zip(*found, strict=True), color=color, marker="o", markersize=3, label=label)
    # a likelihood may be negative
    axes.set(xlabel="step", yscale="log" if losses.min() > 0 else "linear", title=folder.name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "loss.png", dpi=110)
