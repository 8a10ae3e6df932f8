"""The command line. Each command is a small file; the work is done in the rooms below."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import SingDiffusionError
from .boundary import USAGE, run
from .flags import message, running_command

DEBUG = "--debug"
TEXTS = ("--negative", "--first-prompt", "--first-negative")  # which may be empty

app = typer.Typer(
    name="singdiffusion",
    help="Fix the first step of diffusion models: dark rooms and white pages become possible.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"singdiffusion {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Print the whole traceback of an error; also behind a command.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command and exit with 0, 1 (failed; one line gives the reason), 2 (wrong usage), 130 (Ctrl-C) or 143 (SIGTERM)."""
    words, debug = _without_debug(sys.argv[1:])

    def command() -> int | None:
        # they register themselves
        from . import audit, convert, demo, encode, evaluate, generate, serve, theory, train  # noqa: F401

        _refuse_empty(words)
        return app(words, prog_name="singdiffusion", standalone_mode=False)

    def describe(error: SingDiffusionError) -> str:
        return message(error, running_command(typer.main.get_command(app), words))

    sys.exit(run(command, describe, debug))


def _refuse_empty(words: list[str]) -> None:
    """Refuse an empty argument, except where it is a text: ``Path("")`` would be the current folder.

    Raises:
        SingDiffusionError: there is one.
    """
    for before, word in zip(["", *words], words, strict=False):
        flag, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        named = flag.startswith("--")
        if value or (word.startswith("--") and not equals) or flag in TEXTS or (not named and words[0] == "generate"):
            continue
        raise WrongUsage(f"the value of {flag} is empty" if named else "an argument is empty; see --help")


class WrongUsage(SingDiffusionError):
    """The command line was called wrongly."""

    status = USAGE


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """Return the words of a command line without --debug, wherever it stands before "--", and whether it was there."""
    end = words.index("--") if "--" in words else len(words)
    options = [word for word in words[:end] if word != DEBUG]
    return options + words[end:], len(options) < end
