"""The curve of text score against Fréchet distance over the guidance scale, and where one curve is better than another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import SingDiffusionError

SAMPLES = 1000


@dataclass(frozen=True)
class Curve:
    """One remedy on one model: a point per guidance scale.

    Attributes:
        scales: guidance scales, rising.
        text: text scores; more is better.
        distance: Fréchet distances; less is better.

    Raises:
        SingDiffusionError: the three have different lengths, or none.
    """

    name: str
    scales: tuple[float, ...]
    text: tuple[float, ...]
    distance: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.scales) == len(self.text) == len(self.distance) > 0:
            raise SingDiffusionError("a curve needs a text score and a distance for each of its guidance scales")

    def least(self, at_least: np.ndarray) -> np.ndarray:
        """Return the least distance on the curve at which the text score is at least ``at_least``; inf where there is none.

        Args:
            at_least: text scores, float64 (N,). Between its points the curve is straight.
        """
        along = np.linspace(0, len(self.text) - 1, SAMPLES * max(1, len(self.text) - 1) + 1)
        text = np.interp(along, range(len(self.text)), self.text)
        distance = np.interp(along, range(len(self.text)), self.distance)
        order = np.argsort(text)
        text, best = text[order], np.minimum.accumulate(distance[order][::-1])[::-1]
        place = np.searchsorted(text, at_least - 1e-12)
        return np.append(best, np.inf)[place]


@dataclass(frozen=True)
class Verdict:
    """How one curve compares with another at every text score that the other reaches.

    Attributes:
        share: part of these text scores, by length, at which the curve is not worse.
        worse: (from, to) text scores at which it is worse, in order.
        gain: mean of the other's distance divided by its own, over the text scores that both reach.
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
    """Return where ``ours`` reaches the text scores of ``theirs`` at a distance that is not larger."""
    scores = np.linspace(min(theirs.text), max(theirs.text), SAMPLES)
    mine, other = ours.least(scores), theirs.least(scores)
    worse = mine > other * (1 + 1e-9)
    both = np.isfinite(mine)
    gain = float(np.mean(other[both] / mine[both])) if both.any() and (mine[both] > 0).all() else 0.0
    return Verdict(float(1 - worse.mean()), tuple(_runs(scores, worse)), gain)


def _runs(scores: np.ndarray, worse: np.ndarray) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], worse.astype(int), [0]])))
    return [(float(scores[start]), float(scores[end - 1])) for start, end in zip(edges[::2], edges[1::2], strict=True)]
