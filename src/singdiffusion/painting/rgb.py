"""Turn an opened picture into upright 8-bit RGB in sRGB, with notes on what was converted, or give the reason why not."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..compat import has_transparency
from .profiles import to_srgb

MOST_PIXELS = 178_000_000  # of a picture; Pillow itself takes few more
SIXTEEN = ("PNG", "PPM", "JPEG2000")  # formats whose deep greys Pillow returns as mode I, scaled to 16 bits
LEAST_OF_16_BITS = 4096.0  # a lower maximum is unclear
RANGES = (
    (1.0, 0.0),
    (255.0, 16.0),
    (65535.0, LEAST_OF_16_BITS),
)  # (white, least maximum of a picture that is not unclear)
EDGE = 1e-3  # share of the range by which rounding may carry floating point over its ends
BITS, PHOTOMETRIC, SAMPLES = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, SIGNED = 0, 2  # their values


# Bytes that decoding a pixel takes; measured: 12 of a JPEG, 21 with transparency, 36 of a grey of 16 bits.
SHALLOW, DEEP = 24, 40


class Unusable(Exception):
    """The reason why a picture cannot be used."""


def memory_to_decode(picture: Image.Image) -> int:
    """Return the bytes that decoding a picture, converting it and cropping it take at most; it need not be decoded yet."""
    each = DEEP if picture.mode.startswith(("I", "F")) else SHALLOW
    return each * picture.width * picture.height


def upright_rgb(opened: Image.Image, on_white: bool = True) -> tuple[Image.Image, tuple[str, ...]]:
    """Return a picture upright, 8-bit, RGB and in sRGB, and notes on what had to be converted.

    Greys of more than 8 bits are scaled where their range is clear: that of the format (16 bits, or the bits that a TIFF names), or
    0 to 1, 0 to 255 or 0 to 65535 by their values. Embedded color profiles and the gamma of a PNG are converted to sRGB.

    Args:
        opened: as ``PIL.Image.open`` returned it; of its frames the present one.
        on_white: put a transparent picture on white; otherwise its alpha channel is dropped.

    Raises:
        Unusable: its range is unclear, or it has NaN or infinite values.
    """
    upright = ImageOps.exif_transpose(opened) or opened
    notes: tuple[str, ...] = ()
    alpha = None
    if upright.mode.startswith(("I", "F")):
        upright, alpha, note = _eight_bits(upright, opened)
        notes = (note,)
    elif upright.mode == "CMYK":
        notes = ("CMYK to RGB",)
    elif has_transparency(upright):
        over = upright.convert("RGBA")
        alpha, upright = over.getchannel("A"), over.convert("RGB")
    if upright.mode not in ("L", "RGB", "CMYK"):
        upright = upright.convert("L" if upright.mode == "1" else "RGB")
    upright, changed = to_srgb(upright, opened.info)
    notes += changed
    upright = upright.convert("RGB")
    if alpha is not None and on_white:
        upright.putalpha(alpha)
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
        notes += ("transparent, on white",)
    return upright, notes


def _eight_bits(picture: Image.Image, opened: Image.Image) -> tuple[Image.Image, Image.Image | None, str]:
    """Return a deep grey as 8 bits, its alpha channel if it has one, and a note.

    Raises:
        Unusable: its range is unclear, or it has NaN or infinite values.
    """
    levels = np.asarray(picture, np.float64)
    if not np.isfinite(levels).all():
        raise Unusable("has NaN or infinite values")
    low, high, bits = float(levels.min()), float(levels.max()), _bits(opened)
    floating, tags = picture.mode == "F", getattr(opened, "tag_v2", {})
    signed = tags.get(SAMPLES, (0,))[0] == SIGNED and tags.get(BITS, (0,))[0] == 16  # heights, for example
    kind = "floating point" if floating else "16 signed bits" if signed else f"{bits or 32} bits"
    white = _white(low, high, bits, floating)
    if white is None or signed:
        raise Unusable(
            f"has an unclear range: {low:g} to {high:g} in {kind}; write it with 8 bits, or from 0 to 1 in floating point"
        )
    shares = levels / white
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts only those of 8 bits
        shares = 1 - shares
    scaled = Image.fromarray((shares * 255).clip(0, 255).round().astype(np.uint8))
    clear = opened.info.get("transparency")  # of a PNG: the level that is transparent
    alpha = Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)) if isinstance(clear, int) else None
    if bits is not None:
        return scaled, alpha, f"{bits} bits to 8"
    name = "floating point to 8 bits" if floating else "32 bits to 8"
    return scaled, alpha, f"{name}: 0 to {white:g} from black to white"


def _bits(opened: Any) -> int | None:
    """Return the bits per pixel of a deep grey where the file decides its range; None where only its values can."""
    if opened.mode.startswith("I;16"):
        return int(getattr(opened, "tag_v2", {}).get(BITS, (16,))[0])
    return 16 if opened.mode == "I" and opened.format in SIXTEEN else None


def _white(low: float, high: float, bits: int | None, floating: bool) -> float | None:
    """Return the level of white, or None where it is unclear.

    A file of 16 bits with low levels only is unclear, because it usually holds the 8, 10 or 12 bits of a camera.
    """
    if low == high == 0:  # black in any range
        return 1.0
    if bits is not None:
        return 2.0**bits - 1 if bits < 16 or high >= LEAST_OF_16_BITS else None
    edge = EDGE if floating else 0.0
    for white, least in RANGES if floating else RANGES[1:]:
        if -edge * white <= low and least <= high <= (1 + edge) * white:
            return white
    return None
