"""Draw plots in one style, each for light and for dark pages.

A plot is drawn once, in the light colours. Its dark form, and the form whose colours follow a web page's style sheet, are the same SVG with
other colours. Text is large enough to be read where a plot of the usual ``WIDTH`` fills the screen of a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .errors import SingDiffusionError, visible_line

WIDTH = 4.8  # inches: at 72 points per inch nearly the 343 pixels of a phone, so that a point is a pixel there
LONGEST = 100  # characters of a text from outside
SMALL = 8.5  # points: legends and labels at marks

# name -> (light, dark); "paper" is what lies behind a plot: white, so that a light plot can be read on any page, or nothing
COLORS = {
    "ink": ("#1f2328", "#e4e6eb"),
    "paper": ("#ffffff", "none"),
    "orange": ("#b93a0a", "#ff9166"),
    "teal": ("#0f766e", "#45cbbb"),
    "blue": ("#1d4ed8", "#86abff"),
    "violet": ("#7c3aed", "#b99bff"),
    "ochre": ("#a16207", "#e3b04f"),
    "pink": ("#be185d", "#f78ab8"),
    "grey": ("#57606a", "#a9b1bb"),
    "green": ("#15803d", "#5ccd80"),
    "cyan": ("#0e7490", "#52c4e2"),
    "brown": ("#78350f", "#d9a67c"),
}
INK, PAPER, *SERIES = (light for light, _ in COLORS.values())
WITHOUT, MEAN, MOMENTS = SERIES[:3]  # a start without SingDiffusion, with its mean, with its moments
REAL = COLORS["grey"][0]
SETTINGS = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "grid.alpha": 0.16,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "mathtext.fontset": "dejavusans",
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK)
LIGHT = re.compile("|".join(light for light, _ in COLORS.values()))


@contextmanager
def style() -> Iterator[None]:
    """Draw in this style inside of ``with style():``, or in a function with ``@style()``.

    Raises:
        SingDiffusionError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from cycler import cycler
    except ImportError as error:
        raise SingDiffusionError("plots need matplotlib: pip install matplotlib") from error
    with mpl.rc_context(SETTINGS | {"axes.prop_cycle": cycler(color=SERIES)}):
        yield


@style()
def grid(rows: int, columns: int, width: float = WIDTH, height: float = 3.4, **options: Any) -> tuple[Any, Any]:
    """Return a figure and its axes, an array (rows, columns).

    Args:
        width, height: of the figure, in inches.
        options: of matplotlib's ``subplots``, such as ``sharex``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def axes(x: str, y: str, width: float = WIDTH, height: float = 3.4) -> tuple[Any, Any]:
    """Return a figure and its only pair of axes, with the labels x and y; see ``grid``."""
    figure, ((axis,),) = grid(1, 1, width, height)
    axis.set(xlabel=x, ylabel=y)
    return figure, axis


def plain(text: str) -> str:
    """Return a text from outside, such as a model's name, so that a plot shows it in one line of at most ``LONGEST`` characters.

    Otherwise matplotlib would take dollars for formulas, and leave a label that begins with "_" out of the legend.
    """
    line = visible_line(text)
    line = line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
    return (" " if line.startswith("_") else "") + line.replace("$", r"\$")


def smoothed(axis: Any, x: np.ndarray, y: np.ndarray, label: str, color: str) -> None:
    """Plot the mean of y over windows of a fortieth of its length, and y itself faintly behind it."""
    width = max(1, len(y) // 40)
    axis.plot(x, y, color=color, alpha=0.3, linewidth=0.8)
    axis.plot(x[width - 1 :], np.convolve(y, np.ones(width) / width, "valid"), color=color, label=label)


def svg(figure: Any, outlines: bool = True) -> str:
    """Return the figure as SVG in light colours, the same text for the same figure.

    Args:
        outlines: whether letters are drawn as shapes, which look the same everywhere, or kept as text.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    settings = {"svg.hashsalt": "singdiffusion", "svg.fonttype": "path" if outlines else "none"}
    with style(), mpl.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def dark(drawn: str) -> str:
    """Return an SVG of ``svg`` in dark colours, with nothing behind it."""
    return LIGHT.sub(lambda found: dict(COLORS.values())[found[0]], drawn)


def themed(drawn: str) -> str:
    """Return an SVG of ``svg`` for the inside of an HTML page: colours are the variables of ``css``, groups have no ids."""
    names = {light: name for name, (light, _) in COLORS.items()}
    without_ids = re.sub(r'<g id="[^"]*"', "<g", drawn)
    return LIGHT.sub(lambda found: f"var(--plot-{names[found[0]]})", without_ids)


def css() -> str:
    """Return the style sheet that ``themed`` needs: light or dark colours, as the reader's system asks for."""
    light, dark_ = (
        " ".join(f"--plot-{name}: {both[i]};" for name, both in COLORS.items() if name != "paper") for i in (0, 1)
    )
    return (
        f":root {{ --plot-paper: none; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark_} }} }}\n"
    )  # fmt: skip


def png(figure: Any, dpi: int = 160) -> bytes:
    """Return the figure as PNG in light colours, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def files(figure: Any) -> dict[str, bytes]:
    """Return the figure's files: ``.svg`` and ``.png`` in light colours, ``-dark.svg`` in dark ones."""
    drawn = svg(figure)
    return {".svg": drawn.encode(), "-dark.svg": dark(drawn).encode(), ".png": png(figure)}
