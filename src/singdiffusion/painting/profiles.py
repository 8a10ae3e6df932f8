"""Colors as sRGB: a picture's embedded color profile (ICC) or the gamma of a PNG decides what its numbers mean."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from ..errors import one_line

MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # a profile's color space -> Pillow's mode of the pictures it fits
NEAR = 1  # a profile that moves no level by more is taken for sRGB, so that such pictures stay as they are
EXACT = 0x0100  # littleCMS's cmsFLAGS_NOOPTIMIZE: its table for greys makes levels near black half as bright
GAMMA_NEAR = 0.05  # relative; libpng also takes a gamma this near to 1 / 2.2 for that of sRGB


def to_srgb(picture: Image.Image, info: Mapping[str, Any]) -> tuple[Image.Image, tuple[str, ...]]:
    """Return a picture in sRGB, and a note where its colors were converted or its profile cannot be used.

    Args:
        picture: of mode L, RGB or CMYK.
        info: of the file, as Pillow reads it: ``icc_profile``; for a PNG also ``srgb`` and ``gamma``.
    """
    profile = info.get("icc_profile")
    if profile:
        try:
            return _converted(picture, bytes(profile))
        except Exception as error:  # littleCMS raises OSError and PyCMSError; a Pillow without it, ImportError
            return picture, (f"color profile not used: {one_line(error, 80)}",)
    gamma = info.get("gamma")
    if gamma is None or "srgb" in info or picture.mode == "CMYK":
        return picture, ()
    if not 0.05 <= gamma <= 20:
        return picture, (f"gamma not used: {gamma:g}",)
    if abs(gamma * 2.2 - 1) <= GAMMA_NEAR:
        return picture, ()
    return picture.point(_curve(gamma) * len(picture.getbands())), (f"gamma to sRGB: {gamma:.4g}",)


def _converted(picture: Image.Image, profile: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    space, transform = _transform(profile)
    fitting = _in_mode(picture, MODES[space])
    if fitting is None:
        return picture, (f"color profile not used: it is for {space}, the picture is {picture.mode}",)
    if transform is None:
        return picture, ()
    return transform(fitting), ("color profile to sRGB",)


def _in_mode(picture: Image.Image, mode: str) -> Image.Image | None:
    """Return the picture in the mode that its profile is for, or None where it has other colors."""
    if picture.mode == mode:
        return picture
    if (picture.mode, mode) == ("L", "RGB"):
        return picture.convert("RGB")
    if (picture.mode, mode) == ("RGB", "L"):  # a grey picture that a palette or an alpha channel made RGB
        red, green, blue = (np.asarray(band) for band in picture.split())
        return picture.getchannel("R") if np.array_equal(red, green) and np.array_equal(red, blue) else None
    return None


@functools.lru_cache(32)  # most data sets have a few profiles
def _transform(profile: bytes) -> tuple[str, Callable[[Image.Image], Image.Image] | None]:
    """Return a profile's color space and a function that converts pictures to sRGB, or None where it is sRGB up to rounding.

    Raises:
        OSError, PyCMSError, ValueError: it cannot be read, or is not a profile of pictures.
    """
    source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if space not in MODES:
        raise ValueError(f"it is for {space}")
    flags = EXACT if space == "GRAY" else 0
    apply = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), MODES[space], "RGB", flags=flags).apply
    if space == "CMYK":
        return space, apply
    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    probe = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    if space == "GRAY":
        probe = np.arange(256, dtype=np.uint8)[None]
        curve = np.asarray(apply(Image.fromarray(probe)))[0, :, 1].tolist()
        apply = lambda picture: picture.point(curve)  # noqa: E731
    moved = np.abs(np.asarray(apply(Image.fromarray(probe))).astype(int) - probe)
    return space, None if moved.max() <= NEAR else apply


def _curve(gamma: float) -> list[int]:
    """Return the sRGB level of each of 256 levels that were encoded as light ** gamma."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * srgb).round().astype(int).tolist()
