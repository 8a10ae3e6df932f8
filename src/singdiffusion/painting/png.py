"""PNG files whose metadata says how they were made."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image

from .. import __version__


def png(
    image: Image.Image, prompt: str, seed: int, settings: dict[str, Any], optimize: bool = False, **more: str
) -> bytes:
    """A PNG whose text chunks say how it was made: prompt, seed, settings."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("prompt", prompt)
    info.add_text("seed", str(seed))
    info.add_itxt("settings", json.dumps(settings, ensure_ascii=False))
    for key, value in more.items():
        info.add_text(key, value)
    info.add_text("software", f"singdiffusion {__version__}")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, optimize=optimize)
    return buffer.getvalue()


def plain_png(image: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG file without metadata, as small as Pillow can make it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
