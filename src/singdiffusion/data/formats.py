"""Which files are pictures: those whose suffix Pillow has an opener for, except formats that are not one picture."""

from __future__ import annotations

import functools

from PIL import Image

# Pillow's name of a format -> what its files are. Pillow has an opener for each, but what that returns is not one finished picture.
OTHERS = {
    "BUFR": "weather data",
    "CUR": "a mouse pointer",
    "EPS": "a PostScript drawing",
    "FITS": "measured data without a white level",
    "GRIB": "weather data",
    "HDF5": "measured data",
    "IPTC": "a news record",
    "MPEG": "a film",
    "PSD": "a document of layers",
    "WMF": "a vector drawing",
}
# suffixes of pictures that Pillow cannot open, or not in every version
UNREADABLE = frozenset(
    ".heic .heif .hif .avif .avifs .jxl .jxr .qoi .pfm .exr .hdr .svg .svgz .pdf .ai .xcf .kra .psb "
    ".raw .cr2 .cr3 .nef .arw .dng .orf .rw2 .raf".split()
)
MORE_JPEGS = frozenset({".jif", ".jfi", ".pjp", ".pjpeg"})  # names of JPEGs that Pillow's table lacks; it opens them
COMMON = ".jpg, .png, .webp, .tif and others that Pillow opens"  # for messages


@functools.cache
def _formats() -> dict[str, str]:
    """Return suffix -> Pillow's name of the format, of those that it can open."""
    known = Image.registered_extensions()  # it also loads all of Pillow's plugins
    opened = Image.OPEN.keys() | {"MPO"}  # MPO has no opener of its own; that of JPEG opens it
    return {suffix: name for suffix, name in known.items() if name in opened} | dict.fromkeys(MORE_JPEGS, "JPEG")


@functools.cache
def picture_suffixes() -> frozenset[str]:
    """Return the suffixes of pictures that are used, such as ".jpg", in lower case."""
    return frozenset(suffix for suffix, name in _formats().items() if name not in OTHERS)


@functools.cache
def jpeg_suffixes() -> frozenset[str]:
    """Return the suffixes of JPEGs."""
    return frozenset(suffix for suffix, name in _formats().items() if name in ("JPEG", "MPO"))


def why_not(suffix: str) -> str | None:
    """Return the reason why files of a suffix are not used although they are pictures, or None where they are used or no pictures."""
    suffix = suffix.lower()
    what = OTHERS.get(_formats().get(suffix, ""))
    if what is not None:
        return f"is not one picture but {what} ({suffix}): export it as .png or .jpg"
    if suffix in UNREADABLE and suffix not in picture_suffixes():
        return f"is of a format that Pillow cannot open here ({suffix}): convert it to .png or .jpg"
    return None
