"""The histogram of brightness, drawn for reports and for the web page: an SVG inside the page, coloured by its CSS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .texts import in_html

WIDTH, HEIGHT, LEFT, BELOW = 640, 150, 34, 44
TICKS = ((0, "start"), (64, "middle"), (128, "middle"), (192, "middle"), (255, "end"))


@dataclass(frozen=True)
class Series:
    """The pixels of one set of pictures.

    Attributes:
        label: as in the legend.
        shares: of pixels in equal parts of 0..255 (``painting.luma.luma_shares``).
        kind: CSS class, which gives the colour: ``off``, ``on``, or another of ``style.COLORS``.
    """

    label: str
    shares: Sequence[float] | np.ndarray
    kind: str


def histogram(prompt: str, series: Sequence[Series], real: Sequence[float] = ()) -> str:
    """Return inline SVG: shares of pixels by luma, one outline per series, with dashed lines at real pictures' mean lumas.

    Args:
        prompt: of the pictures, for screen readers.
        real: mean lumas of real pictures, 0..255.
    """
    top = max(float(np.max(each.shares)) for each in series) or 1.0
    outlines = "".join(f'<polygon class="{each.kind}" points="{_outline(each.shares, top)}"/>' for each in series)
    lines = "".join(f'<line class="real" x1="{_x(v):.1f}" x2="{_x(v):.1f}" y1="4" y2="{HEIGHT}"/>' for v in real)
    ticks = "".join(f'<text x="{_x(v):.0f}" y="{HEIGHT + 17}" text-anchor="{anchor}">{v}</text>' for v, anchor in TICKS)
    label = f"Histogram of pixel brightness for {prompt}, {' and '.join(each.label for each in series)}"
    many = " many" if len(series) > 2 else ""
    return (
        f'<svg class="histogram{many}" viewBox="0 0 {WIDTH} {HEIGHT + BELOW}" role="img" aria-label="{in_html(label)}">'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>{outlines}{lines}{ticks}'
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT + 38}" text-anchor="middle">pixel brightness (luma)</text>'
        f'<text transform="translate(14 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">pixels, √ scale</text></svg>'
    )


def _x(luma: float) -> float:
    return LEFT + luma / 255 * (WIDTH - LEFT)


def _outline(shares: Sequence[float] | np.ndarray, top: float) -> str:
    """Points of the steps. The axis is a square root, so that small shares stay visible."""
    heights = np.sqrt(np.asarray(shares) / top) * (HEIGHT - 12)
    step = (WIDTH - LEFT) / len(heights)
    points = [f"{LEFT},{HEIGHT}"]
    for i, height in enumerate(heights):
        y = HEIGHT - height
        points += [f"{LEFT + i * step:.1f},{y:.1f}", f"{LEFT + (i + 1) * step:.1f},{y:.1f}"]
    return " ".join([*points, f"{WIDTH},{HEIGHT}"])


def legend(series: Sequence[Series], real: bool) -> str:
    """Return the legend as HTML.

    Args:
        real: whether real pictures' mean lumas are drawn.
    """
    parts = ['<span style="--c:var(--real)">mean of real pictures (dashed)</span>'] if real else []
    parts += [f'<span style="--c:var(--{each.kind})">{in_html(each.label)}</span>' for each in series]
    return f'<p class="key" aria-hidden="true">{"".join(parts)}</p>'
