"""Plots in one style, by matplotlib, as SVG and PNG."""

from __future__ import annotations

import io
from typing import Any

from ...errors import SingDiffusionError

COLORS = ("#b93a0a", "#0f766e", "#1d4ed8", "#7c3aed", "#a16207", "#be185d", "#57606a", "#15803d", "#0e7490", "#78350f")


def axes(x: str, y: str, width: float = 7.2, height: float = 4.2) -> tuple[Any, Any]:
    """Return a figure with one pair of axes.

    Args:
        x, y: labels.
        width, height: in inches.

    Raises:
        SingDiffusionError: matplotlib is not installed.
    """
    try:
        from cycler import cycler
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SingDiffusionError("plots need matplotlib: pip install 'singdiffusion[evaluate]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.add_subplot()
    axis.set_prop_cycle(cycler(color=COLORS))
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)
    return figure, axis


def svg(figure: Any) -> str:
    """Return the figure as SVG text, the same for the same figure."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "singdiffusion", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def png(figure: Any, dpi: int = 150) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
