"""Numbers of a file become the light that they mean: any depth of greys, and any color profile, by closed forms."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from singdiffusion.painting.rgb import Unusable

from .files import icc, read, saved, tiff


def srgb(level, gamma):
    """The sRGB level of a level whose light is level ** gamma."""
    light = (level / 255) ** gamma
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def first(content):
    """(red, green, blue) of the first pixel, and the notes."""
    picture, notes = read(content)
    assert picture.mode == "RGB"
    return picture.getpixel((0, 0)), notes


# -- depth ---------------------------------------------------------------------------------------------------------------


def deep(value, kind, fmt="TIFF"):
    return saved(Image.fromarray(np.full((64, 64), value, kind)), fmt)


@pytest.mark.parametrize(
    ("value", "kind", "fmt", "level", "note"),
    [
        (200, np.float32, "TIFF", 200, "floating point to 8 bits: 0 to 255 from black to white"),
        (0.5, np.float32, "TIFF", 128, "floating point to 8 bits: 0 to 1 from black to white"),
        (1.0005, np.float32, "TIFF", 255, "floating point to 8 bits: 0 to 1 from black to white"),
        (51400, np.float32, "TIFF", 200, "floating point to 8 bits: 0 to 65535 from black to white"),
        (0, np.float32, "TIFF", 0, "floating point to 8 bits: 0 to 1 from black to white"),
        (200, np.int32, "TIFF", 200, "32 bits to 8: 0 to 255 from black to white"),
        (51400, np.int32, "TIFF", 200, "32 bits to 8: 0 to 65535 from black to white"),
        (51400, np.uint16, "TIFF", 200, "16 bits to 8"),
        (51400, np.uint16, "PNG", 200, "16 bits to 8"),
        (51400, np.uint16, "JPEG2000", 200, "16 bits to 8"),
        (0, np.uint16, "PNG", 0, "16 bits to 8"),
    ],
)
def test_deep_levels_of_a_clear_range_is_scaled(value, kind, fmt, level, note):
    assert first(deep(value, kind, fmt)) == ((level,) * 3, (note,))


@pytest.mark.parametrize(
    ("value", "kind", "fmt", "message"),
    [
        (1.5, np.float32, "TIFF", "has an unclear range: 1.5 to 1.5 in floating point; write it with 8 bits, or"),
        (-0.2, np.float32, "TIFF", "has an unclear range: -0.2 to -0.2 in floating point"),
        (1000, np.float32, "TIFF", "has an unclear range: 1000 to 1000 in floating point"),
        (70000, np.float32, "TIFF", "has an unclear range: 70000 to 70000 in floating point"),
        (np.nan, np.float32, "TIFF", "has NaN or infinite values"),
        (np.inf, np.float32, "TIFF", "has NaN or infinite values"),
        (1, np.int32, "TIFF", "has an unclear range: 1 to 1 in 32 bits"),
        (-200, np.int32, "TIFF", "has an unclear range: -200 to -200 in 32 bits"),
        (200, np.uint16, "PNG", "has an unclear range: 200 to 200 in 16 bits"),
        (4095, np.uint16, "TIFF", "has an unclear range: 4095 to 4095 in 16 bits"),
    ],
)
def test_deep_levels_of_an_unclear_range_is_not_used(value, kind, fmt, message):
    with pytest.raises(Unusable) as raised:
        read(deep(value, kind, fmt))
    assert str(raised.value).startswith(message)


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_every_depth_of_a_picture_is_the_same_picture(levels):
    """A picture with any level from 16 on is the same in 8, 16 and 32 bits and in floating point."""
    eight = np.array([[*levels, 16]], np.uint8)
    expected = np.asarray(read(saved(Image.fromarray(eight)))[0])
    for kind, scale in ((np.uint16, 257), (np.int32, 1), (np.int32, 257), (np.float32, 1), (np.float32, 1 / 255)):
        deep = saved(Image.fromarray((eight * np.float64(scale)).astype(kind)), "TIFF")
        assert np.array_equal(np.asarray(read(deep)[0]), expected), (kind, scale)


def test_bits_that_a_tiff_names_are_its_range():
    """Two pixels of 12 bits in three bytes, 0x800 and 0xFFF."""
    picture, notes = read(tiff(2, 1, 12, b"\x80\x0f\xff"))
    assert np.asarray(picture)[0, :, 0].tolist() == [round(0x800 / 0xFFF * 255), 255]
    assert notes == ("12 bits to 8",)
    with pytest.raises(Unusable, match="has an unclear range: 256 to 20000 in 16 signed bits"):
        read(tiff(2, 1, 16, np.array([256, 20000], "<i2").tobytes(), sample_format=2))


@pytest.mark.parametrize("value", [0, 5140, 65535])
def test_white_is_zero(value):
    """TIFF's WhiteIsZero, as scanners write it: Pillow inverts 8 bits, and we the deeper ones."""
    deep = tiff(1, 1, 16, np.array([value], "<u2").tobytes(), photometric=0)
    eight = tiff(1, 1, 8, bytes([value // 257]), photometric=0)
    assert first(deep)[0] == first(eight)[0] == (255 - value // 257,) * 3


def test_the_transparent_level_of_a_deep_grey():
    png = saved(Image.fromarray(np.array([[51400, 10280]], np.uint16))).getvalue()
    chunk = b"tRNS" + (10280).to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    picture, notes = read(png[:33] + chunk + png[33:])  # behind the header
    assert np.asarray(picture)[0, :, 0].tolist() == [200, 255]
    assert notes == ("16 bits to 8", "transparent, on white")


# -- color ---------------------------------------------------------------------------------------------------------------


def test_the_closed_form():
    assert round(srgb(128, 1.8)) == 146


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize(("space", "mode"), [("GRAY", "L"), ("RGB", "RGB"), ("RGB", "L")])
def test_a_profile_of_gamma_1_8(fmt, space, mode):
    options = {"quality": 100} if fmt in ("JPEG", "WEBP") else {}
    picture = Image.new(mode, (16, 16), (128,) * len(mode))
    content = saved(picture, fmt, icc_profile=icc(space, 1.8), **options)
    color, notes = first(content)
    assert color == (146,) * 3
    assert notes == ("color profile to sRGB",)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([1.0, 1.5, 1.8, 2.6]), st.sampled_from(["GRAY", "RGB"]), st.integers(0, 255))
def test_profiles_of_any_gamma(gamma, space, level):
    picture = Image.new("L" if space == "GRAY" else "RGB", (2, 2), (level,) * (1 if space == "GRAY" else 3))
    color, _ = first(saved(picture, icc_profile=icc(space, gamma)))
    assert color == pytest.approx((srgb(level, gamma),) * 3, abs=0.6)


def test_other_primaries():
    """With red and green exchanged in the profile, the picture's red is green."""
    from .files import SRGB

    swapped = icc("RGB", 2.2, (SRGB[1], SRGB[0], SRGB[2]))
    color, _ = first(saved(Image.new("RGB", (2, 2), (255, 0, 0)), icc_profile=swapped))
    assert color == pytest.approx((0, 255, 0), abs=2)


def test_srgb_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8).astype(np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture, notes = read(saved(Image.fromarray(pixels), icc_profile=profile))
    assert np.array_equal(np.asarray(picture), pixels)
    assert notes == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_profiles_of_pictures_with_alpha_or_a_palette(mode):
    """Colors are converted before a picture is put on white; a grey profile also fits greys in a palette."""
    level, expected = (255, 255) if mode == "1" else (128, 146)
    picture = Image.new("L", (2, 1), level).convert(mode)
    if mode in ("RGBA", "LA"):
        picture.putpixel((1, 0), (level,) * (len(mode) - 1) + (0,))
    for space in ("GRAY", "RGB"):
        if (mode, space) == ("1", "GRAY"):
            continue
        found, notes = read(saved(picture, icc_profile=icc(space, 1.8)))
        assert found.getpixel((0, 0)) == (expected,) * 3, space
        assert "color profile to sRGB" in notes
        assert found.getpixel((1, 0)) == ((255,) * 3 if len(mode) > 1 else (expected,) * 3)


def test_a_profile_of_a_deep_grey():
    assert first(saved(Image.fromarray(np.full((4, 4), 128 * 257, np.uint16)), icc_profile=icc("GRAY", 1.8))) == (
        (146,) * 3,
        ("16 bits to 8", "color profile to sRGB"),
    )


@pytest.mark.parametrize(
    ("profile", "note"),
    [
        (b"no profile" * 30, "color profile not used: cannot open profile from string"),
        (icc("RGB", 1.8)[:300], "color profile not used: "),
        (icc("GRAY", 1.8), "color profile not used: it is for GRAY, the picture is RGB"),
        (icc("Lab", 1.8), "color profile not used: "),
    ],
)
def test_a_profile_that_cannot_be_used_is_noted(profile, note):
    color, notes = first(saved(Image.new("RGB", (4, 4), (128, 64, 32)), icc_profile=profile))
    assert color == (128, 64, 32)
    assert len(notes) == 1
    assert notes[0].startswith(note)


@pytest.mark.parametrize(("gamma", "mode"), [(1.8, "L"), (1.8, "RGB"), (1.0, "RGB"), (2.2, "L")])
def test_the_gamma_of_a_png(gamma, mode):
    """The chunk gAMA holds 100,000 / gamma; 2.2 is taken for sRGB, and a color profile goes before it."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", round(100_000 / gamma).to_bytes(4, "big"))
    picture = Image.new(mode, (4, 4), (128,) * len(mode))
    color, notes = first(saved(picture, pnginfo=chunks))
    assert color == ((128,) * 3 if gamma == 2.2 else (round(srgb(128, gamma)),) * 3)
    assert notes == (() if gamma == 2.2 else (f"gamma to sRGB: {round(100_000 / gamma) / 100_000:.4g}",))
    both, _ = first(saved(picture, pnginfo=chunks, icc_profile=icc("RGB", 1.8)))
    assert both == (146,) * 3


def test_a_gamma_of_zero_is_noted():
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", bytes(4))
    assert first(saved(Image.new("L", (4, 4), 128), pnginfo=chunks)) == ((128,) * 3, ("gamma not used: 0",))
