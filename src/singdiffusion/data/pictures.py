"""Turn any picture file into an RGB picture of a wanted size, or name the reason why it cannot be used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..errors import one_line
from ..painting.rgb import MOST_PIXELS, Unusable, memory_to_decode, upright_rgb

__all__ = ["Unusable", "buckets", "decoded", "fit", "load", "memory_to_decode", "nearest_bucket", "opened"]

BUCKET_STEP = 64  # sides of buckets are multiples of this many pixels
JPEGS = ("JPEG", "MPO")  # an MPO of a phone has a preview or a depth map behind its first frame, the picture
WIDEST = 2.0  # the most extreme aspect ratio of a bucket


def load(picture: Any, smallest: int, enough: int | None = None) -> tuple[Image.Image, tuple[str, ...]]:
    """Return an upright 8-bit picture in sRGB, and notes on what had to be converted.

    Transparent pictures are put on white; deep greys and color profiles are converted as ``painting.rgb`` describes.

    Args:
        picture: what ``PIL.Image.open`` takes, or a ``PIL.Image.Image``.
        smallest: least height and width, in pixels.
        enough: height and width that suffice. A much larger JPEG is decoded at a fraction of its size, at least twice this.

    Raises:
        Unusable: the picture cannot be decoded, is animated, too small, too large or of an unclear range.
    """
    return decoded(opened(picture, smallest, enough))


def opened(picture: Any, smallest: int, enough: int | None = None) -> Image.Image:
    """Return a picture that is not decoded yet; the arguments and errors are those of ``load``."""
    with _unusable():
        found = picture if isinstance(picture, Image.Image) else Image.open(picture)
        _check(found, smallest)
        if found.format in JPEGS and enough is not None:
            found.draft(None, (2 * enough, 2 * enough))
        return found


def decoded(picture: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Return what ``opened`` returned, decoded; see ``load``."""
    with _unusable():
        picture.load()
        return upright_rgb(picture)


@contextmanager
def _unusable() -> Iterator[None]:
    """Turn the errors of Pillow into the reason why a picture cannot be used."""
    try:
        yield
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable("is too large") from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise Unusable(f"cannot be decoded: {one_line(error, 120)}") from error


def _check(opened: Image.Image, smallest: int) -> None:
    if getattr(opened, "n_frames", 1) > 1 and opened.format not in JPEGS:
        raise Unusable("is animated")
    if min(opened.size) < smallest:
        raise Unusable(f"is too small: {opened.width} x {opened.height}, less than {smallest}")
    if opened.width * opened.height > MOST_PIXELS:
        raise Unusable(f"is too large: {opened.width} x {opened.height}")


def fit(picture: Image.Image, height: int, width: int) -> np.ndarray:
    """Return a picture scaled to cover height x width and cropped in the middle: uint8 (height, width, 3)."""
    covering = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS, centering=(0.5, 0.5))
    return np.asarray(covering)


def buckets(size: int) -> list[tuple[int, int]]:
    """Return (height, width) of buckets that have about size x size pixels and aspect ratios from 1 : 2 to 2 : 1.

    Their sides are multiples of 64 pixels, or of a quarter of ``size`` where that is smaller.
    """
    step = min(BUCKET_STEP, max(8, size // 4))
    found = set()
    for width in range(step, 2 * size + 1, step):
        height = round(size * size / width / step) * step
        if height and 1 / WIDEST <= width / height <= WIDEST:
            found |= {(height, width)}
    return sorted(found)


def nearest_bucket(picture: Image.Image, choices: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the bucket whose aspect ratio is nearest to the picture's, in log."""
    aspect = math.log(picture.width / picture.height)
    return min(choices, key=lambda hw: abs(math.log(hw[1] / hw[0]) - aspect))
