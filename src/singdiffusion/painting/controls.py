"""Pictures for a ControlNet to follow: whether a pipeline needs one, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import SingDiffusionError, one_line
from ..memory import require_memory
from .rgb import MOST_PIXELS, Unusable, memory_to_decode, upright_rgb


def needs_control(pipe: Any, source: Path | None) -> bool:
    """Return whether a pipeline has a ControlNet, and check that a picture is given exactly where it has one.

    Raises:
        SingDiffusionError: there is a ControlNet and no picture, or a picture and no ControlNet.
    """
    has_one = getattr(pipe, "controlnet", None) is not None
    if has_one and source is None:
        raise SingDiffusionError("this model has a ControlNet and needs a picture that it follows", setting="control")
    if source is not None and not has_one:
        raise SingDiffusionError(
            f"{source} is for a ControlNet to follow, and a {type(pipe).__name__} has none", setting="control"
        )
    return has_one


def read_control(
    file: Path, own: Mapping[str, Image.Image] | None = None, report: Callable[[str], None] = lambda line: None
) -> Image.Image:
    """Return a picture for a ControlNet to follow, RGB in sRGB and upright.

    Args:
        file: a picture; one of 16 bits, as depth maps are, is reduced to 8, and an alpha channel is dropped.
        own: pictures that come with the model, by name; a name stands for its picture where there is no such file.
        report: takes a line per conversion, such as that of a color profile.

    Raises:
        SingDiffusionError: the file cannot be read as a picture, or its range is unclear.
    """
    own = own or {}
    if str(file) in own and not file.is_file():
        return own[str(file)]
    try:
        if file.exists() and not file.is_file():
            raise Unusable("is a folder, a pipe or a device")
        with Image.open(file) as picture:
            what = f"{file}, of {picture.width} x {picture.height} pixels,"
            require_memory(memory_to_decode(picture), what, "control")
            picture.load()
            found, notes = upright_rgb(picture, on_white=False)
    except SingDiffusionError:
        raise
    except Unusable as error:
        raise SingDiffusionError(f"{file} cannot be read as a picture: it {error}", setting="control") from error
    except Image.DecompressionBombError as error:
        raise SingDiffusionError(
            f"{file} is too large; at most {MOST_PIXELS:,} pixels are read", setting="control"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: a damaged PNG
        known = f"; the model's own are {', '.join(own)}" if own else ""
        reason = "" if isinstance(error, FileNotFoundError | Image.UnidentifiedImageError) else f" ({one_line(error)})"
        raise SingDiffusionError(f"{file} cannot be read as a picture{reason}{known}", setting="control") from error
    for note in notes:
        report(f"{file}: {note}")
    return found
