"""Colours as the user writes them."""

from __future__ import annotations

from typing import Any

from PIL import ImageColor

from ..errors import SingDiffusionError

Color = tuple[int, int, int]


def parse_color(color: Any) -> Color:
    """Return (red, green, blue) of "#rrggbb", of a CSS colour name, or of three numbers within 0..255.

    Raises:
        SingDiffusionError: it is not a colour.
    """
    try:
        values = ImageColor.getrgb(color)[:3] if isinstance(color, str) else tuple(int(value) for value in color)
    except (ValueError, TypeError) as error:
        raise SingDiffusionError(
            f"{color!r} is not a colour; write #rrggbb, a name such as navy, or (red, green, blue)"
        ) from error
    if len(values) != 3 or any(not 0 <= value <= 255 for value in values):
        raise SingDiffusionError(f"{color!r} is not a colour; it must be red, green and blue within 0..255")
    return values  # type: ignore[return-value]
