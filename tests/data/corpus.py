"""A folder of captioned pictures with every kind of damage, and what encoding must do with each."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16


def picture(seed, size=(SIDE, SIDE), mode="RGB"):
    rng = np.random.default_rng(seed)
    rgb = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8).astype(np.uint8))
    return rgb.convert(mode)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width, height):
    """A valid PNG of width x height black pixels, a few kilobytes long."""
    chunk = lambda tag, data: (  # noqa: E731
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
    )
    row = b"\0" * (1 + (width + 7) // 8)
    squeezed = zlib.compressobj(9)
    data = b"".join(squeezed.compress(row) for _ in range(height)) + squeezed.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def animated(seed):
    frames = [picture(seed + i) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def sixteen_bit(seed):
    return encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)))


# kind -> (suffix, bytes of the picture, bytes of the caption or None, "kept", "kept: note" or the reason for skipping it)
def kinds(seed):
    good = encoded(picture(seed))
    jpeg = encoded(picture(seed), "JPEG")
    caption = b"a red room"
    return {
        "plain": (".png", good, caption, "kept"),
        "jpeg": (".jpg", jpeg, caption, "kept"),
        "grey": (".png", encoded(picture(seed, mode="L")), caption, "kept"),
        "palette": (".png", encoded(picture(seed).quantize(16)), caption, "kept"),
        "one_bit": (".png", encoded(picture(seed, mode="1")), caption, "kept"),
        "wide": (".png", encoded(picture(seed, (61, 17))), caption, "kept"),
        "cmyk": (".jpg", encoded(picture(seed, mode="CMYK"), "JPEG"), caption, "kept: CMYK to RGB"),
        "sixteen": (".png", sixteen_bit(seed), caption, "kept: 16 bits to 8"),
        "transparent": (".png", encoded(picture(seed, mode="RGBA")), caption, "kept: transparent, on white"),
        "truncated": (".png", good[: len(good) // 2], caption, "cannot be decoded"),
        "truncated_jpeg": (".jpg", jpeg[: len(jpeg) // 2], caption, "cannot be decoded"),
        "zero": (".png", b"", caption, "cannot be decoded"),
        "noise": (".jpg", random.Random(seed).randbytes(500), caption, "cannot be decoded"),
        "text_inside": (".webp", b"<html>no picture</html>", caption, "cannot be decoded"),
        "animated": (".gif", animated(seed), caption, "is animated"),
        "one_pixel": (".png", encoded(picture(seed, (1, 1))), caption, "is too small"),
        "huge": (".png", bomb(20_000, 20_000), caption, "is too large"),
        "long_thin": (".png", bomb(20_000, 1), caption, "is too small"),
        "no_caption": (".png", good, None, "has no caption"),
        "empty_caption": (".png", good, b" \n ", "its caption is empty"),
        "latin_caption": (".png", good, "ein grünes Haus".encode("latin-1"), "its caption is not UTF-8"),
        "long_caption": (".png", good, b"word " * 500_000, "kept: caption cut"),
    }


def write(folder: Path, repeats: int) -> dict[str, str]:
    """Write every kind ``repeats`` times; return file name -> what encoding must do with it."""
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}
    for i in range(repeats):
        for kind, (suffix, data, caption, fate) in kinds(i).items():
            file = folder / f"{kind}_{i}{suffix}"
            file.write_bytes(data)
            if caption is not None:
                file.with_suffix(".txt").write_bytes(caption)
            expected[file.name] = fate
    return expected
