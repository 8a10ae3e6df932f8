"""A finding as files: one HTML page with everything in it, JSON with every figure, a Markdown table for a paper or a model card."""

from __future__ import annotations

import base64
import html
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rich.table
from PIL import Image

from ... import __version__, plots
from ...files import output_folder, write_whole
from ..report import STYLE, png

SHOWN = 8  # pictures a row on a page


@dataclass(frozen=True)
class Table:
    """Headings and cells, all text; the first column names the row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def rich(self) -> rich.table.Table:
        made = rich.table.Table(title=self.title or None)
        for i, column in enumerate(self.columns):
            made.add_column(column, justify="left" if i == 0 else "right")
        for row in self.rows:
            made.add_row(*row)
        return made

    def markdown(self) -> str:
        cell = lambda text: text.replace("|", "\\|")  # noqa: E731
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)
        return f"{self.title}\n\n{table}\n" if self.title else table + "\n"

    def html(self) -> str:
        heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in self.columns)
        rows = []
        for first, *others in self.rows:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in others)
            rows.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
        title = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        body = "\n".join(rows)
        return f'<div class="scroll"><table>{title}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def plot(svg: str, alt: str) -> str:
    """A figure as SVG, in the page itself."""
    body = plots.themed(svg[svg.index("<svg") :])
    return f'<div class="plot" role="img" aria-label="{html.escape(alt)}">{body}</div>'


def pictures(rows: Sequence[tuple[str, Sequence[Image.Image]]], prompts: Sequence[str]) -> str:
    """A row of pictures a label, under each other, so that the same prompt and seed stand in the same column.

    Args:
        prompts: one for all pictures, or one a column, which then stand above.
    """
    said = list(prompts) if len(prompts) > 1 else list(prompts) * SHOWN
    parts = (
        [_row("", [f"<span>{html.escape(prompt)}</span>" for prompt in said[:SHOWN]], "said")]
        if len(prompts) > 1
        else []
    )
    for label, images in rows:
        shown = [
            f'<img src="data:image/png;base64,{base64.b64encode(png(image)).decode()}" alt="{html.escape(prompt)}, '
            f'{html.escape(label)}" title="{html.escape(prompt)}" width="{image.width}" height="{image.height}">'
            for image, prompt in zip(images[:SHOWN], said, strict=False)
        ]
        parts.append(_row(label, shown))
    return "".join(parts)


def _row(label: str, cells: Sequence[str], kind: str = "") -> str:
    caption = f"<figcaption>{html.escape(label)}</figcaption>" if label else "<div></div>"
    tag = "figure" if label else "div"
    return f'<{tag} class="row {kind}">{caption}<div class="pictures">{"".join(cells)}</div></{tag}>'


@dataclass
class Document:
    """What a command found.

    Attributes:
        title, intro: what was measured, in words.
        figures: everything as JSON; the keys are documented in docs/evaluate.md.
        tables: for the terminal, the page and Markdown.
        sections: of the page: heading and HTML.
        notes: what a reader must know before trusting a figure.
        files: name -> content of further files in the folder.
    """

    title: str
    intro: str
    figures: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    sections: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: dict[str, bytes | str] = field(default_factory=dict)

    def write(self, out: Path) -> Path:
        """``index.html``, ``figures.json``, ``table.md`` and the further files; returns the page."""
        output_folder(out)
        write_whole(out / "figures.json", as_json(self.figures))
        write_whole(out / "table.md", self.markdown())
        for name, content in self.files.items():
            write_whole(out / name, content)
        return write_whole(out / "index.html", self.html())

    def markdown(self) -> str:
        parts = [table.markdown() for table in self.tables]
        parts += ["".join(f"- {note}\n" for note in self.notes)] if self.notes else []
        return "\n".join([*parts, f"`{self.figures['command_line']}`, singdiffusion {__version__}\n"])

    def html(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        body = "\n".join(table.html() for table in self.tables)
        body += "\n".join(
            f"<section><h2>{html.escape(heading)}</h2>{content}</section>" for heading, content in self.sections
        )
        body += f'<section><h2>To be known</h2><ul class="notes">{notes}</ul></section>' if notes else ""
        return _PAGE.format(
            title=html.escape(self.title),
            intro=html.escape(self.intro),
            style=STYLE + plots.css() + _MORE_STYLE,
            body=body,
            settings=html.escape(json.dumps(self.figures["settings"], indent=2, ensure_ascii=False)),
            command=html.escape(self.figures["command_line"]),
            versions=html.escape(", ".join(f"{k} {v}" for k, v in self.figures["versions"].items())),
        )


def as_json(figures: dict[str, Any]) -> str:
    """JSON that every reader takes: a number that is not finite would be no JSON, and raises."""
    return json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def provenance(command: str) -> dict[str, Any]:
    """Which command this was, as it was typed, and with which versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"singdiffusion": __version__, "python": platform.python_version()}
    for package in ("torch", "diffusers", "transformers", "torchmetrics", "torch-fidelity", "scipy", "pillow"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "command": command,
        "command_line": shlex.join(["singdiffusion", *sys.argv[1:]]),
        "versions": versions,
    }


_MORE_STYLE = """
thead th { white-space: normal; vertical-align: bottom } th:first-child { min-width: 200px } td:last-child { white-space: normal }
caption { text-align: left; color: var(--soft); font-size: .92rem; padding: 0 0 8px; caption-side: top }
.row { display: grid; grid-template-columns: 148px 1fr; gap: 14px; align-items: center; margin: 0 0 10px }
.row figcaption { display: block; color: var(--soft); font-size: .86rem; margin: 0; overflow-wrap: anywhere }
.row .pictures { grid-template-columns: repeat(8, minmax(0, 1fr)) }
.said { align-items: end } .said span { font-size: .72rem; line-height: 1.25; color: var(--soft); overflow-wrap: anywhere }
.plot svg { width: 100%; height: auto; max-width: 560px; display: block; margin: 0 auto }
.notes { margin: 0; padding-left: 20px } .notes li { margin: 0 0 6px; max-width: 76ch }
details { margin: 26px 0 0; color: var(--soft) } summary { cursor: pointer } pre { overflow-x: auto; font-size: .8rem }
code { font-size: .86em; overflow-wrap: anywhere }
@media (max-width: 600px) { .row { grid-template-columns: 1fr; gap: 4px } .row .pictures { grid-template-columns: repeat(4, 1fr) } }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head><body><main>
<h1>{title}</h1>
<p>{intro}</p>
{body}
<details><summary>Settings, versions, command line</summary>
<p><code>{command}</code></p><p>{versions}</p><pre>{settings}</pre></details>
</main></body></html>
"""
