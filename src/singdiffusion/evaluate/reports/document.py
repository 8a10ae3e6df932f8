"""A report as files: one HTML page with everything in it, JSON with every figure, a Markdown table for a paper or a model card."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rich.table

from ... import __version__, plots
from ...errors import SingDiffusionError
from ...files import output_folder, write_whole
from ...painting.metadata import json_text
from .style import STYLE
from .texts import in_code, in_html, in_markdown, in_terminal

PAGE = "index.html"
REPORT = (PAGE, "figures.json", "table.md")
GENERATOR = "singdiffusion"


@dataclass(frozen=True)
class Table:
    """A table of text; the first column names the row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def rich(self) -> rich.table.Table:
        """Return it for the terminal."""
        made = rich.table.Table(title=in_terminal(self.title) if self.title else None)
        for i, column in enumerate(self.columns):
            made.add_column(in_terminal(column), justify="left" if i == 0 else "right")
        for row in self.rows:
            made.add_row(*map(in_terminal, row))
        return made

    def markdown(self) -> str:
        """Return it as Markdown, below its title."""
        heads, *rows = ([in_markdown(cell) for cell in line] for line in (self.columns, *self.rows))
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{in_markdown(self.title)}\n\n{table}\n" if self.title else table + "\n"

    def html(self) -> str:
        """Return it as HTML, which scrolls sideways where it is too wide."""
        heads = "".join(f'<th scope="col">{in_html(column)}</th>' for column in self.columns)
        rows = []
        for first, *others in self.rows:
            cells = "".join(f"<td>{in_html(cell)}</td>" for cell in others)
            rows.append(f'<tr><th scope="row">{in_html(first)}</th>{cells}</tr>')
        title, body = in_html(self.title), "\n".join(rows)
        above = f'<p class="title" aria-hidden="true">{title}</p>' if title else ""
        table = f'<table aria-label="{title}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        return f'{above}<div class="scroll">{table}</div>'


def plot(svg: str, alt: str) -> str:
    """Return a figure, given as SVG of ``plots.svg``, as HTML inside the page.

    Args:
        alt: its description for screen readers.
    """
    body = plots.themed(svg[svg.index("<svg") :])
    return f'<div class="plot" role="img" aria-label="{in_html(alt)}">{body}</div>'


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
        """Write ``index.html``, ``figures.json``, ``table.md`` and the further files, and return the page's path.

        Raises:
            SingDiffusionError: one is there and is not of a report, or cannot be written.
        """
        check_report_folder(out, REPORT + tuple(self.files))
        output_folder(out)
        page = write_whole(out / PAGE, self.html())  # first: it marks the others as ours
        write_whole(out / "figures.json", as_json(self.figures))
        write_whole(out / "table.md", self.markdown())
        for name, content in self.files.items():
            write_whole(out / name, content)
        return page

    def markdown(self) -> str:
        """Return tables, notes and the command line as Markdown."""
        parts = [table.markdown() for table in self.tables]
        parts += ["".join(f"- {in_markdown(note)}\n" for note in self.notes)] if self.notes else []
        return "\n".join([*parts, f"{in_code(self.figures['command_line'])}, singdiffusion {__version__}\n"])

    def html(self) -> str:
        """Return one page with everything in it: no script, no network."""
        notes = "".join(f"<li>{in_html(note)}</li>" for note in self.notes)
        body = "\n".join(table.html() for table in self.tables)
        body += "\n".join(
            f"<section><h2>{in_html(heading)}</h2>{content}</section>" for heading, content in self.sections
        )
        body += f'<section><h2>Notes</h2><ul class="notes">{notes}</ul></section>' if notes else ""
        return _PAGE.format(
            title=in_html(self.title),
            intro=in_html(self.intro),
            style=STYLE,
            generator=f"{GENERATOR} {__version__}",
            body=body,
            settings=in_html(json.dumps(self.figures["settings"], indent=2, ensure_ascii=False)),
            command=in_html(self.figures["command_line"]),
            versions=in_html(", ".join(f"{k} {v}" for k, v in self.figures["versions"].items())),
        )


def check_report_folder(folder: Path, names: Sequence[str]) -> None:
    """Check that a report replaces only files of a report: these lie beside an ``index.html`` that names this package as its generator.

    Args:
        folder: for the report; it need not exist.
        names: of its files.

    Raises:
        SingDiffusionError: a file of such a name is there, and is not of a report.
    """
    there = next((name for name in names if os.path.lexists(folder / name)), None)
    if there is not None and not _is_report(folder / PAGE):
        raise SingDiffusionError(
            f"{folder / there} is not of a report and would be replaced; move it, or name another folder", setting="out"
        )


def _is_report(page: Path) -> bool:
    try:
        with page.open("rb") as opened:
            return f'<meta name="generator" content="{GENERATOR} '.encode() in opened.read(1000)
    except OSError:
        return False


def as_json(figures: dict[str, Any]) -> str:
    """Return JSON that every reader accepts.

    Raises:
        ValueError: a number is not finite, which JSON cannot hold.
    """
    return json_text(figures, indent=2, allow_nan=False) + "\n"


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
<meta name="generator" content="{generator}"><title>{title}</title><style>{style}</style></head><body><main>
<h1>{title}</h1>
<p>{intro}</p>
{body}
<details><summary>Settings, versions, command line</summary>
<p><code>{command}</code></p><p>{versions}</p><pre>{settings}</pre></details>
</main></body></html>
"""
