"""Pictures in reports: rows of them inside a page, and a grid as one picture."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ...compat import default_font, drawable
from ...painting.png import png
from ..gallery import EXAMPLES
from .texts import in_html


def data_uri(image: Image.Image) -> str:
    """Return a picture as a PNG inside a URI, for a page that needs no other files."""
    return "data:image/png;base64," + base64.b64encode(png(image, optimize=True)).decode()


def rows(labelled: Sequence[tuple[str, Sequence[Image.Image]]], prompts: Sequence[str]) -> str:
    """Return HTML with a row of pictures per label, so that the same prompt and seed stand in the same column.

    Args:
        labelled: (label, pictures); up to ``EXAMPLES`` of them are shown.
        prompts: one for all pictures, or one per column, which is then shown above the column.
    """
    per_column = (list(prompts) if len(prompts) > 1 else list(prompts) * EXAMPLES)[:EXAMPLES]
    parts = []
    if len(prompts) > 1:
        parts.append(_row("", [f"<span>{in_html(prompt)}</span>" for prompt in per_column], "captions"))
    for label, images in labelled:
        shown = [
            f'<img src="{data_uri(image)}" alt="{in_html(prompt)}, {in_html(label)}" '
            f'title="{in_html(prompt)}" width="{image.width}" height="{image.height}">'
            for image, prompt in zip(images, per_column, strict=False)
        ]
        parts.append(_row(label, shown))
    return "".join(parts)


def _row(label: str, cells: Sequence[str], kind: str = "") -> str:
    caption = f"<figcaption>{in_html(label)}</figcaption>" if label else "<div></div>"
    tag = "figure" if label else "div"
    return f'<{tag} class="row {kind}">{caption}<div class="pictures">{"".join(cells)}</div></{tag}>'


GAP, CAPTION, MARGIN = 4, 30, 118  # of the grid, pixels
GRID_ROWS = (("without", "#c2410c"), ("with\nSingDiffusion", "#0f766e"))


def grid(
    pairs: Sequence[tuple[str, Sequence[Image.Image], Sequence[Image.Image]]], columns: int = 8, zoom: int = 1
) -> Image.Image:
    """Return one picture with two rows per prompt: without above, with SingDiffusion below.

    Args:
        pairs: (prompt, pictures without, pictures with), of one size.
        columns: most pictures in a row.
        zoom: how many times larger the pictures are drawn.
    """
    width, height = (side * zoom for side in pairs[0][1][0].size)
    count = min(columns, len(pairs[0][1]))
    block = CAPTION + 2 * (height + GAP)
    font, small = default_font(15), default_font(13)
    titles = [drawable(f"“{prompt}”") for prompt, _, _ in pairs]
    widest = max(font.getlength(title) for title in titles)
    across = max(MARGIN + count * (width + GAP) + 12, int(widest) + 24)
    page = Image.new("RGB", (across, len(pairs) * block + 12), "#f4f4f2")
    draw = ImageDraw.Draw(page)
    for i, ((_, *both), title) in enumerate(zip(pairs, titles, strict=True)):
        top = i * block + 8
        draw.text((12, top), title, fill="#1c1917", font=font)
        for j, ((words, ink), images) in enumerate(zip(GRID_ROWS, both, strict=True)):
            y = top + CAPTION - 4 + j * (height + GAP)
            draw.multiline_text((12, y + height / 2 - 14), words, fill=ink, font=small)
            for k, image in enumerate(images[:count]):
                page.paste(_zoomed(image, zoom), (MARGIN + k * (width + GAP), y))
    return page


def _zoomed(image: Image.Image, zoom: int) -> Image.Image:
    image = image.convert("RGB")
    return image if zoom == 1 else image.resize((image.width * zoom, image.height * zoom), Image.Resampling.LANCZOS)
