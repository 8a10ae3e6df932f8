"""PNG files that record how their picture was made."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .. import __version__
from ..reading import parse_json
from .metadata import PictureSettings, json_text
from .parameters import parameters

SETTINGS = "singdiffusion"  # key of the text chunk with the settings as JSON
PARAMETERS = "parameters"  # key that AUTOMATIC1111's web UI and its relatives read


def png(image: Image.Image, settings: PictureSettings | None = None, *, optimize: bool = False) -> bytes:
    """Return a picture as the bytes of a PNG file; the same picture and settings give the same bytes.

    Args:
        image: of any mode that PNG has.
        settings: written as text, twice: as JSON under diffusers' names, and as artists' tools read them.
        optimize: take longer for a smaller file.
    """
    info = PngInfo()
    if settings is not None:
        info.add_text(PARAMETERS, parameters(settings))
        info.add_text(SETTINGS, json_text(settings.as_json()))
        info.add_text("Software", f"singdiffusion {__version__}")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, optimize=optimize)
    return buffer.getvalue()


def read_settings(image: Image.Image) -> dict:
    """Return the settings that ``png`` wrote into a picture, by diffusers' names; of a picture without them ``{}``.

    Raises:
        SingDiffusionError: the picture has such a text, and it is not JSON of settings.
    """
    text = image.info.get(SETTINGS)
    return {} if text is None else parse_json(str(text), f"the text {SETTINGS!r} of the picture")


def is_ours(file: Path) -> bool:
    """Return whether a file is a PNG that ``png`` wrote with settings."""
    try:
        with Image.open(file) as picture:
            return bool(read_settings(picture))
    except Exception:  # Pillow raises many kinds for files that are not pictures
        return False
