"""A histogram of pixel brightness as SVG; style.css gives it its colours."""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
from PIL import Image

from ..painting.luma import BINS, LUMA, histogram

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 150, 34, 34
LABELS = {"off": "without", "on": "with SingDiffusion"}


def svg(prompt: str, images: Mapping[str, Image.Image]) -> str:
    """Return inline SVG with the share of pixels in each range of luma, 0..255.

    Args:
        prompt: for the description that screen readers read.
        images: under ``off`` and ``on``, or one of the two.
    """
    shares = {key: _shares(image) for key, image in images.items()}
    top = max(float(share.max()) for share in shares.values())
    shapes = "".join(f'<polygon class="{key}" points="{_outline(share / top)}"/>' for key, share in shares.items())
    ticks = "".join(
        f'<text x="{LEFT + v / 255 * (WIDTH - LEFT):.0f}" y="{HEIGHT + 14}" text-anchor="{anchor}">{v}</text>'
        for v, anchor in ((0, "start"), (64, "middle"), (128, "middle"), (192, "middle"), (255, "end"))
    )
    label = f"Histogram of pixel brightness for {prompt}, {' and '.join(LABELS[key] for key in images)}"
    return (
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT + BOTTOM}" role="img" aria-label="{html.escape(label)}">'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>{shapes}{ticks}'
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT + 30}" text-anchor="middle">pixel brightness (luma)</text>'
        f'<text transform="translate(14 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">pixels, √ scale</text></svg>'
    )


def _shares(image: Image.Image) -> np.ndarray:
    counts = histogram(np.asarray(image.convert("RGB"), np.float64) @ LUMA)
    return counts / counts.sum()


def _outline(heights: np.ndarray) -> str:
    """Return the points of a polygon for bars of heights within 0..1, on a square-root axis: small shares stay visible."""
    step = (WIDTH - LEFT) / BINS
    points = [f"{LEFT},{HEIGHT}"]
    for i, height in enumerate(np.sqrt(heights) * (HEIGHT - 12)):
        points += [f"{LEFT + (i + j) * step:.1f},{HEIGHT - height:.1f}" for j in (0, 1)]
    return " ".join([*points, f"{WIDTH},{HEIGHT}"])
