"""Write docs/commands.md, every command with its options, from the command line itself: ``python docs/commands.py``, or ``make docs``."""

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

*Written by `make docs` from the command line itself; a test holds this page against it.*

Every command says the same with `--help`. It exits with 0; with 1 if it failed, and one line says why; with 2 if it was called wrongly;
with 130 if it was interrupted. `--json FILE` writes a command's figures.
"""


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(what to type, command) of a group and the groups in it, by name."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def section(typed: str, command: Any) -> str:
    """A command: what it does, its examples, a table of its arguments and options."""
    context = typer.Context(command, info_name=typed)
    what, *examples = (" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n"))
    lines = [f"## {typed}", "", what, ""]
    for example in examples:
        said, _, line = example.partition(": ")
        lines += [f"{said}: `{line}`", ""]
    lines += ["| argument or option | what it is |", "|---|---|"]
    records = (parameter.get_help_record(context) for parameter in command.params)
    lines += [f"| `{named(option)}` | {plainly(said)} |" for option, said in filter(None, records)]
    return "\n".join(lines) + "\n"


def named(option: str) -> str:
    """ "--steps <int range>" -> "--steps INTEGER"."""
    return re.sub(r"<(?:list\[)?(\w+).*>", lambda found: KINDS[found[1].lower()], option)


def plainly(said: str) -> str:
    """What help says of an option, its range in words."""
    said = re.sub(r"(\d+)<=x<=(\d+)", r"within \1..\2", " ".join(said.split()))
    said = re.sub(r"x<=(\d+)", r"at most \1", re.sub(r"x>=(\d+)", r"at least \1", said))
    return said.replace(str(2**62), "2^62").replace("|", "\\|").replace("*", "\\*")


def page() -> str:
    """docs/commands.md."""
    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"{cli.__name__}.{module.name}")  # commands register themselves
    found = commands(typer.main.get_command(cli.app), "singdiffusion")
    return "\n".join([HEAD, *(section(*each) for each in found)])


if __name__ == "__main__":
    (HERE / "commands.md").write_text(page())
    print(HERE / "commands.md")
