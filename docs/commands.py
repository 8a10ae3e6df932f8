"""Write docs/commands.md from the command line itself: every command with its options. ``python docs/commands.py``, or ``make docs``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from singdiffusion import cli

HERE = Path(__file__).parent

KINDS = {"str": "TEXT", "int": "INTEGER", "float": "NUMBER", "path": "PATH"}
HEAD = """\
# Commands

*Written by `make docs` from the command line itself; a test compares the two.*

`--help` after a command prints the same. A command that succeeds exits with status 0. Other statuses are 1 if it failed (a message gives the
reason), 2 if it was called wrongly, 130 if it was interrupted by Ctrl-C, and 143 if SIGTERM stopped it; `train` writes a checkpoint first.
An error that nobody foresaw is also one line, which names the file of its traceback; `--debug` prints the traceback.
`--json FILE` writes a command's figures.
"""


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield (words to type, command) for a group and the groups in it, sorted by name."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def section(typed: str, command: Any) -> str:
    """Return Markdown for a command: its help, its examples, a table of its arguments and options."""
    context = typer.Context(command, info_name=typed)
    lines = [f"## {typed}", ""]
    for part in inspect.cleandoc(command.help or "").split("\n\n"):
        lines += [*paragraph(part), ""]
    lines += ["| argument or option | what it is |", "|---|---|"]
    records = (parameter.get_help_record(context) for parameter in command.params)
    lines += [f"| `{named(option)}` | {plain(text)} |" for option, text in filter(None, records)]
    return "\n".join(lines) + "\n"


def paragraph(part: str) -> list[str]:
    """Return a paragraph of a help text; one that keeps its lines is a heading with a command, which becomes code."""
    if not part.startswith("\b"):
        return [" ".join(part.split())]
    heading, *code = part.removeprefix("\b").strip("\n").split("\n")
    return [heading, "", *("    " + line.removeprefix("  ") for line in code)]


def named(option: str) -> str:
    """Return an option with the kind of its value: "--steps <int range>" becomes "--steps INTEGER"."""
    return re.sub(r"<(?:list\[)?(\w+).*>", lambda found: KINDS[found[1].lower()], option)


def plain(text: str) -> str:
    """Return the help of an option with its range in words."""
    text = re.sub(r"(\d+)<=x<=(\d+)", r"within \1..\2", " ".join(text.split()))
    text = re.sub(r"x<=(\d+)", r"at most \1", re.sub(r"x>=(\d+)", r"at least \1", text))
    return text.replace(str(2**62), "2^62").replace("|", "\\|").replace("*", "\\*")


def page() -> str:
    """Return docs/commands.md."""
    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"{cli.__name__}.{module.name}")  # commands register themselves
    found = commands(typer.main.get_command(cli.app), "singdiffusion")
    return "\n".join([HEAD, *(section(*each) for each in found)])


if __name__ == "__main__":
    (HERE / "commands.md").write_text(page())
    print(HERE / "commands.md")
