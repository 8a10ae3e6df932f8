"""What a comparison looks like: a table for the terminal, a PNG grid, one self-contained HTML page, JSON."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from .brightness import PromptResult, Spread

COLOURS = {"real": "#8a8f98", "off": "#c2410c", "on": "#0f766e"}
HEADINGS = {"off": "Without", "on": "With SingDiffusion"}
LABELS = {"real": "real pictures", "off": "without", "on": "with SingDiffusion"}


def _spreads(result: PromptResult) -> dict[str, Spread | None]:
    return {"real": result.real, "off": Spread.of(result.greys_off), "on": Spread.of(result.greys_on)}


def as_json(results: Sequence[PromptResult], model: str, settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    """``{"model", "settings", "seconds", "prompts": [{"prompt", "real", "off", "on": {"mean", "std"}}]}``."""
    rounded = lambda s: None if s is None else {"mean": round(s.mean, 3), "std": round(s.std, 3)}  # noqa: E731
    prompts = [{"prompt": r.prompt} | {key: rounded(s) for key, s in _spreads(r).items()} for r in results]
    return {"model": model, "settings": settings, "seconds": round(seconds, 1), "prompts": prompts}


def table(results: Sequence[PromptResult]) -> Table:
    """Mean grey (0..255) and its standard deviation over pictures, a row a prompt."""
    made = Table(title="Mean grey of the pictures (0 black, 255 white) ± standard deviation over pictures")
    made.add_column("prompt")
    for label in LABELS.values():
        made.add_column(label, justify="right")
    for result in results:
        made.add_row(result.prompt, *(_cell(s) for s in _spreads(result).values()))
    return made


def _cell(spread: Spread | None) -> str:
    return "–" if spread is None else f"{spread.mean:.1f} ± {spread.std:.1f}"


# -- the grid ---------------------------------------------------------------------------------------------------------


def grid(results: Sequence[PromptResult], columns: int = 8, zoom: int = 1) -> Image.Image:
    """Without above, with below, a pair of rows a prompt; at most ``columns`` pictures a row."""
    width, height = (side * zoom for side in results[0].off[0].size)
    gap, caption, margin = 4, 30, 118
    count = min(columns, len(results[0].off))
    block = caption + 2 * (height + gap)
    font, small = ImageFont.load_default(15), ImageFont.load_default(13)
    widest = max(font.getlength(f"“{result.prompt}”") for result in results)
    across = max(margin + count * (width + gap) + 12, int(widest) + 24)
    page = Image.new("RGB", (across, len(results) * block + 12), "#f4f4f2")
    draw = ImageDraw.Draw(page)
    for i, result in enumerate(results):
        top = i * block + 8
        draw.text((12, top), f"“{result.prompt}”", fill="#1c1917", font=font)
        for j, (key, images) in enumerate((("off", result.off), ("on", result.on))):
            y = top + caption - 4 + j * (height + gap)
            words = "without" if key == "off" else "with\nSingDiffusion"
            draw.multiline_text((12, y + height / 2 - 14), words, fill=COLOURS[key], font=small)
            for k, image in enumerate(images[:count]):
                page.paste(_zoomed(image, zoom), (margin + k * (width + gap), y))
    return page


def side_by_side(off: Image.Image, on: Image.Image) -> Image.Image:
    """One picture: without on the left, with on the right."""
    page = Image.new("RGB", (off.width + on.width + 4, off.height), "#8a8f98")
    page.paste(off.convert("RGB"), (0, 0))
    page.paste(on.convert("RGB"), (off.width + 4, 0))
    return page


def _zoomed(image: Image.Image, zoom: int) -> Image.Image:
    image = image.convert("RGB")
    return image if zoom == 1 else image.resize((image.width * zoom, image.height * zoom), Image.Resampling.LANCZOS)


def png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# -- the page ---------------------------------------------------------------------------------------------------------


def page(results: Sequence[PromptResult], title: str, settings: dict[str, Any]) -> str:
    """One HTML file with everything in it: pictures, table and brightness histograms; no script, no network."""
    facts = " · ".join(f"{html.escape(str(key))} {html.escape(str(value))}" for key, value in settings.items())
    body = "\n".join(_section(result) for result in results)
    return _PAGE.format(title=html.escape(title), facts=facts, rows=_rows(results), sections=body, style=STYLE)


def _rows(results: Sequence[PromptResult]) -> str:
    lines = []
    for result in results:
        cells = "".join(f'<td class="{key}">{_cell(s)}</td>' for key, s in _spreads(result).items())
        lines.append(f'<tr><th scope="row">{html.escape(result.prompt)}</th>{cells}</tr>')
    return "\n".join(lines)


def _section(result: PromptResult) -> str:
    halves = []
    for key, images in (("off", result.off), ("on", result.on)):
        pictures = "".join(
            f'<img src="data:image/png;base64,{base64.b64encode(png(image)).decode()}" '
            f'alt="{html.escape(result.prompt)}, {LABELS[key]}, picture {i + 1}" '
            f'title="mean grey {value:.0f}" width="{image.width}" height="{image.height}">'
            for i, (image, value) in enumerate(
                zip(images, result.greys_off if key == "off" else result.greys_on, strict=True)
            )
        )
        mean = Spread.of(result.greys_off if key == "off" else result.greys_on).mean
        halves.append(
            f'<figure class="{key}"><figcaption><b>{HEADINGS[key]}</b> '
            f'<span>mean grey {mean:.0f}</span></figcaption><div class="pictures">{pictures}</div></figure>'
        )
    return f'<section><h2>“{html.escape(result.prompt)}”</h2><div class="halves">{"".join(halves)}</div>{histogram(result)}</section>'


def histogram(result: PromptResult, bins: int = 32, keys: Sequence[str] = ("off", "on")) -> str:
    """Inline SVG: how many pixels have which luma, off and on (or one of ``keys``), as shares; the real mean as a line."""
    width, height, left, bottom = 640, 150, 34, 34
    shares = {key: _luma_shares(getattr(result, key), bins) for key in keys}
    top = max(float(s.max()) for s in shares.values()) or 1.0
    step = (width - left) / bins
    shapes = []
    for key, share in shares.items():
        heights = np.sqrt(share / top) * (height - 12)  # a square-root axis: small shares stay visible
        points = [f"{left},{height}"]
        for i, h in enumerate(heights):
            points += [f"{left + i * step:.1f},{height - h:.1f}", f"{left + (i + 1) * step:.1f},{height - h:.1f}"]
        points.append(f"{width},{height}")
        shapes.append(f'<polygon class="{key}" points="{" ".join(points)}"/>')
    if result.real is not None:
        x = left + result.real.mean / 255 * (width - left)
        shapes.append(f'<line class="real" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height}"/>')
    ticks = "".join(
        f'<text x="{left + v / 255 * (width - left):.0f}" y="{height + 14}" text-anchor="{anchor}">{v}</text>'
        for v, anchor in ((0, "start"), (64, "middle"), (128, "middle"), (192, "middle"), (255, "end"))
    )
    label = f"Histogram of pixel brightness for {result.prompt}, {' and '.join(LABELS[key] for key in keys)}"
    return (
        f'<svg class="histogram" viewBox="0 0 {width} {height + bottom}" role="img" aria-label="{html.escape(label)}">'
        f'<line class="axis" x1="{left}" x2="{width}" y1="{height}" y2="{height}"/>{"".join(shapes)}{ticks}'
        f'<text x="{(left + width) / 2:.0f}" y="{height + 30}" text-anchor="middle">pixel brightness (luma)</text>'
        f'<text transform="translate(14 {height / 2:.0f}) rotate(-90)" text-anchor="middle">pixels, √ scale</text></svg>'
    )


def _luma_shares(images: Sequence[Image.Image], bins: int) -> np.ndarray:
    rgb = np.stack([np.asarray(image.convert("RGB"), np.float64) for image in images])
    counts, _ = np.histogram(rgb @ np.array([0.299, 0.587, 0.114]), bins=bins, range=(0, 255.001))
    return counts / counts.sum()


STYLE = """
:root { color-scheme: light dark; --ink: #1c1917; --soft: #57534e; --paper: #fafaf9; --card: #ffffff; --line: #e7e5e4;
  --real: #57606a; --off: #b93a0a; --on: #0f766e; }
@media (prefers-color-scheme: dark) { :root { --ink: #f5f5f4; --soft: #a8a29e; --paper: #171615; --card: #211f1e;
  --line: #3a3735; --real: #b3bac3; --off: #fb923c; --on: #2dd4bf; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 40px 20px 64px }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: 0 0 12px; letter-spacing: -.02em }
h2 { font-size: 1.15rem; margin: 0 0 14px }
p { max-width: 72ch; margin: 0 0 12px } .facts { color: var(--soft); font-size: .9rem }
.scroll { overflow-x: auto; margin: 24px 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: 9px 14px; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child { text-align: left; font-weight: 500; white-space: normal; min-width: 150px }
thead th { font-size: .86rem; font-weight: 600; color: var(--soft) }
td.off { color: var(--off) } td.on { color: var(--on); font-weight: 650 } td.real { color: var(--real) }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 22px; margin: 22px 0 }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 22px }
figure { margin: 0 } figcaption { display: flex; justify-content: space-between; margin-bottom: 8px; font-size: .95rem }
figcaption span { color: var(--soft) } .off figcaption b { color: var(--off) } .on figcaption b { color: var(--on) }
.pictures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px }
.pictures img { width: 100%; height: auto; display: block; border-radius: 5px; outline: 1px solid var(--line) }
.histogram { width: 100%; max-width: 760px; height: auto; margin: 20px auto 0; display: block }
.histogram text { fill: var(--soft); font-size: 12px } .histogram .axis { stroke: var(--line) }
.histogram polygon { fill-opacity: .28; stroke-width: 1.6 }
.histogram .off { fill: var(--off); stroke: var(--off) } .histogram .on { fill: var(--on); stroke: var(--on) }
.histogram .real { stroke: var(--real); stroke-width: 2; stroke-dasharray: 5 4 }
@media (max-width: 600px) { main { padding: 26px 14px 48px } section { padding: 16px }
  th, td { padding: 8px 3px; font-size: .8rem; white-space: normal } th:first-child { min-width: 84px }
  .histogram text { font-size: 21px } }
.key { display: flex; flex-wrap: wrap; gap: 6px 20px; font-size: .9rem; color: var(--soft) }
.key span::before { content: ""; display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 7px; background: var(--c) }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head><body><main>
<h1>{title}</h1>
<p>The same model, the same prompts, the same seeds. Without SingDiffusion sampling starts from the wrong noise and every
picture is pulled to average grey; with it the first step starts where the prompt's pictures are, and the model does the
rest untouched.</p>
<p class="facts">{facts}</p>
<div class="scroll"><table><thead><tr><th scope="col">Mean grey, 0 black to 255 white (± over pictures)</th>
<th scope="col">real pictures</th><th scope="col">without</th><th scope="col">with SingDiffusion</th></tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="key"><span style="--c:var(--real)">mean of real pictures (dashed)</span><span style="--c:var(--off)">without</span>
<span style="--c:var(--on)">with SingDiffusion</span></p>
{sections}
</main></body></html>
"""
