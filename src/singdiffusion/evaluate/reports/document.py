"""A report as files: one HTML page with everything in it, JSON with every figure, a Markdown table for a paper or a model card."""

from __future__ import annotations

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

from ... import __version__, plots
from ...files import output_folder, write_whole
from .style import STYLE


@dataclass(frozen=True)
class Table:
    """A table of text; the first column names the row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def rich(self) -> rich.table.Table:
        """Return it for the terminal."""
        made = rich.table.Table(title=self.title or None)
        for i, column in enumerate(self.columns):
            made.add_column(column, justify="left" if i == 0 else "right")
        for row in self.rows:
            made.add_row(*row)
        return made

    def markdown(self) -> str:
        """Return it as Markdown, below its title."""
        cell = lambda text: text.replace("|", "\\|")  # noqa: E731
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)
        return f"{self.title}\n\n{table}\n" if self.title else table + "\n"

    def html(self) -> str:
        """Return it as HTML, which scrolls sideways where it is too wide."""
        heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in self.columns)
        rows = []
        for first, *others in self.rows:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in others)
            rows.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
        title, body = html.escape(self.title), "\n".join(rows)
        above = f'<p class="title" aria-hidden="true">{title}</p>' if title else ""
        table = f'<table aria-label="{title}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        return f'{above}<div class="scroll">{table}</div>'


def plot(svg: str, alt: str) -> str:
    """Return a figure, given as SVG of ``plots.svg``, as HTML inside the page.

    Args:
        alt: its description for screen readers.
    """
    body = plots.themed(svg[svg.index("<svg") :])
    return f'<div class="plot" role="img" aria-label="{html.escape(alt)}">{body}</div>'


@dataclass
class Document:
    """The report of a command.

    Attributes:
        title, intro: what was measured, in words.
        figures: everything as JSON; the keys are documented in docs/evaluate.md.
        tables: for the terminal, the page and Markdown.
        sections: of the page: heading and HTML.
        notes: what a reader must know before relying on a figure.
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
        """Write ``index.html``, ``figures.json``, ``table.md`` and the further files, and return the page's path."""
        output_folder(out)
        write_whole(out / "figures.json", as_json(self.figures))
        write_whole(out / "table.md", self.markdown())
        for name, content in self.files.items():
            write_whole(out / name, content)
        return write_whole(out / "index.html", self.html())

    def markdown(self) -> str:
        """Return tables, notes and the command line as Markdown."""
        parts = [table.markdown() for table in self.tables]
        parts += ["".join(f"- {note}\n" for note in self.notes)] if self.notes else []
        return "\n".join([*parts, f"`{self.figures['command_line']}`, singdiffusion {__version__}\n"])

    def html(self) -> str:
        """Return one page with everything in it: no script, no network."""
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        body = "\n".join(table.html() for table in self.tables)
        body += "\n".join(
            f"<section><h2>{html.escape(heading)}</h2>{content}</section>" for heading, content in self.sections
        )
        body += f'<section><h2>Notes</h2><ul class="notes">{notes}</ul></section>' if notes else ""
        return _PAGE.format(
            title=html.escape(self.title),
            intro=html.escape(self.intro),
            style=STYLE,
            body=body,
            settings=html.escape(json.dumps(self.figures["settings"], indent=2, ensure_ascii=False)),
            command=html.escape(self.figures["command_line"]),
            versions=html.escape(", ".join(f"{k} {v}" for k, v in self.figures["versions"].items())),
        )


def as_json(figures: dict[str, Any]) -> str:
    """Return JSON that every reader accepts.

    Raises:
        ValueError: a number is not finite, which JSON cannot hold.
    """
    return json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def provenance(command: str) -> dict[str, Any]:
    """Return how the figures were made: the command, the command line as typed, and versions."""
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
