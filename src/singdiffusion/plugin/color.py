"""Starting from a flat colour: its latent stands in for the mean of a prompt's pictures, and no module is needed."""

from __future__ import annotations

from typing import Any

from PIL import ImageColor

from ..errors import SingDiffusionError

Color = tuple[int, int, int]


def parse_color(color: Any) -> Color:
    """Read "#rrggbb", a CSS colour name, or three numbers within 0..255, as (red, green, blue).

    Raises:
        SingDiffusionError: it is no colour.
    """
    try:
        values = ImageColor.getrgb(color)[:3] if isinstance(color, str) else tuple(int(value) for value in color)
    except (ValueError, TypeError) as error:
        raise SingDiffusionError(
            f"{color!r} is no colour; write #rrggbb, a name such as navy, or (red, green, blue)"
        ) from error
    if len(values) != 3 or any(not 0 <= value <= 255 for value in values):
        raise SingDiffusionError(f"{color!r} is no colour; it must be red, green and blue within 0..255")
    return values  # type: ignore[return-value]
