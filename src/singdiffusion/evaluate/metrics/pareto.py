"""The curve of text score against Fréchet distance over the guidance scale, and where one curve is better than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import plots
from ...errors import SingDiffusionError
from ..reports import paper as published

SCALES = published.GUIDANCE
SAMPLES = 1000


@dataclass(frozen=True)
class Curve:
    """One remedy on one model: a point a guidance scale.

    Attributes:
        scales: guidance scales, rising.
        text: text scores, more is better.
        distance: Fréchet distances, less is better.
    """

    name: str
    scales: tuple[float, ...]
    text: tuple[float, ...]
    distance: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.scales) == len(self.text) == len(self.distance) > 0:
            raise SingDiffusionError("a curve needs a text score and a distance for each of its guidance scales")

    def least(self, at_least: np.ndarray) -> np.ndarray:
        """The least distance on the curve, straight between its points, with at least so much text score; inf where there is none."""
        along = np.linspace(0, len(self.text) - 1, SAMPLES * max(1, len(self.text) - 1) + 1)
        text = np.interp(along, range(len(self.text)), self.text)
        distance = np.interp(along, range(len(self.text)), self.distance)
        order = np.argsort(text)
        text, best = text[order], np.minimum.accumulate(distance[order][::-1])[::-1]
        place = np.searchsorted(text, at_least - 1e-12)
        return np.append(best, np.inf)[place]


@dataclass(frozen=True)
class Verdict:
    """How one curve stands to another at every text score that the other reaches.

    Attributes:
        share: of these text scores, by length, at which it is no worse.
        worse: (from, to) text scores at which it is worse, in order.
        gain: mean over the text scores that both reach of the other's distance over its own.
    """

    share: float
    worse: tuple[tuple[float, float], ...]
    gain: float

    def __str__(self) -> str:
        if not self.worse:
            return f"better at every text score; the distance is {self.gain:.2f} times smaller on average"
        where = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in self.worse)
        return f"better at {self.share:.0%} of the text scores, worse at {where}"


def compare(ours: Curve, theirs: Curve) -> Verdict:
    """Whether ``ours`` reaches each text score of ``theirs`` at a distance no larger."""
    scores = np.linspace(min(theirs.text), max(theirs.text), SAMPLES)
    mine, other = ours.least(scores), theirs.least(scores)
    worse = mine > other * (1 + 1e-9)
    both = np.isfinite(mine)
    gain = float(np.mean(other[both] / mine[both])) if both.any() and (mine[both] > 0).all() else 0.0
    return Verdict(float(1 - worse.mean()), tuple(_runs(scores, worse)), gain)


def _runs(scores: np.ndarray, worse: np.ndarray) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], worse.astype(int), [0]])))
    return [(float(scores[start]), float(scores[end - 1])) for start, end in zip(edges[::2], edges[1::2], strict=True)]


@plots.style()
def figure(curves: Sequence[Curve], text_name: str, distance_name: str, behind: str | None = None) -> object:
    """The curves, each point with its guidance scale; behind them the authors', named as read off a plot.

    Args:
        behind: a key of ``published.PARETO``.

    Raises:
        SingDiffusionError: there are no such published curves.
    """
    if behind is not None and behind not in published.PARETO:
        raise SingDiffusionError(f"no published curve of {behind!r}; known: {', '.join(published.PARETO)}")
    made, axis = plots.axes(text_name, "", height=4.0)
    axis.set_title(distance_name, loc="left")
    for key, points in published.PARETO[behind].items() if behind else ():
        words = "without" if key == "off" else "with SingDiffusion"
        x, y = zip(*points, strict=True)
        axis.plot(x, y, color=plots.REAL, alpha=0.7, linestyle="--" if key == "off" else "-", marker=".", linewidth=1.2,
                  label=f"{behind} {words}, {published.SOURCE}", zorder=1)  # fmt: skip
    lines = [axis.plot(curve.text, curve.distance, marker="o", label=curve.name)[0] for curve in curves]
    _name_scales(axis, curves, [line.get_color() for line in lines])
    made.legend(loc="outside lower center")
    return made


def _name_scales(axis: Any, curves: Sequence[Curve], colors: Sequence[str]) -> None:
    """Write the guidance scales at the points of curves, where those that are written already leave room."""
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
