"""Pictures as files of other programs: with color profiles, of any depth."""

import io
import struct

from PIL import Image

WHITE = (0.9642, 1.0, 0.8249)  # D50
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))


def icc(space, gamma, primaries=SRGB):
    """A color profile (ICC 2.4) for GRAY or RGB: light is level ** gamma."""
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    color = lambda xyz: b"XYZ " + bytes(4) + struct.pack(">iii", *(round(v * 65536) for v in xyz))  # noqa: E731
    tags = [(b"desc", b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)), (b"wtpt", color(WHITE))]
    if space == "GRAY":
        tags += [(b"kTRC", curve)]
    else:
        tags += [(name + b"XYZ", color(xyz)) for name, xyz in zip((b"r", b"g", b"b"), primaries, strict=True)]
        tags += [(name + b"TRC", curve) for name in (b"r", b"g", b"b")]
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", space.ljust(4).encode(), b"XYZ "
    )
    header += bytes(12) + b"acsp" + bytes(28) + color(WHITE)[8:]
    return header.ljust(128, b"\0") + table + body


def tiff(width, height, bits, data, photometric=1, sample_format=1):
    """A TIFF of one grey strip, with any bits per pixel."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags[339] = sample_format
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    at = 8 + len(data)
    return b"II*\0" + struct.pack("<I", at) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def saved(image, kind="PNG", **options):
    """A picture as a file in memory."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


def read(content):
    """(picture, notes) as every command reads a file."""
    from singdiffusion.painting.rgb import upright_rgb

    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
        opened.load()
        return upright_rgb(opened)
