"""Texts from outside (prompts, names of models and files, other libraries' messages) in a report: shown, and not obeyed.

There is one function per medium: the terminal, Markdown, HTML; plots have ``plots.plain``. Control characters and marks of direction are
written out in all of them, by ``errors.visible``.
"""

from __future__ import annotations

import html
import re

from rich.text import Text

from ...errors import visible, visible_line

# What Markdown, with GitHub's additions, obeys inside of a line: code, emphasis, HTML, cells, formulas, entities, links; at its start: blocks.
_MARKS = re.compile(r"[\\`*<|$&~]|\](?=\()|(?<!\w)_|_(?!\w)|^[#>+=-]")


def in_terminal(text: str) -> Text:
    """Return a text in one line for rich, which would take "[red]" in a string for a style."""
    return Text(visible_line(text))


def in_markdown(text: str) -> str:
    """Return a text in one line for Markdown: also inside of a table's cell."""
    return _MARKS.sub(lambda found: "\\" + found[0], visible_line(text))


def in_code(text: str) -> str:
    """Return a text in one line as code for Markdown."""
    line = visible_line(text)
    marks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{marks}{space}{line}{space}{marks}"


def in_html(text: object) -> str:
    """Return a text for HTML, as content or as an attribute in quotation marks."""
    return html.escape(visible(text))
