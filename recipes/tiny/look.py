"""Contact sheets, on which a person can judge what the recipe draws and the models paint."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def sheet(
    pictures: Sequence[np.ndarray], file: Path, columns: int = 12, captions: Sequence[str] | None = None, zoom: int = 2
) -> None:
    """Write pictures, uint8 [H, W, 3] of one size, as one PNG with their captions beneath."""
    height, width, _ = pictures[0].shape
    height, width = height * zoom, width * zoom
    line = 40 if captions else 2
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (width + 4), rows * (height + line)), (238, 238, 238))
    draw = ImageDraw.Draw(page)
    for i, picture in enumerate(pictures):
        x, y = i % columns * (width + 4), i // columns * (height + line)
        page.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC), (x, y))
        if captions:
            lines = textwrap.wrap(captions[i], max(1, width // 6))
            draw.multiline_text((x + 1, y + height), "\n".join(lines[:3]), fill=(20, 20, 20), spacing=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    page.save(file)
