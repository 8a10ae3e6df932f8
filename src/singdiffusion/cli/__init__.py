"""The command line. Each command is a small file; the work is done in the rooms below."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import SingDiffusionError

app = typer.Typer(
    name="singdiffusion",
    help="Fix the first step of diffusion models: dark rooms and white pages become possible.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


INTERRUPTED = "interrupted; finished files are kept, none is half-written"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"singdiffusion {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command and exit with 0, 1 (failed; one line gives the reason), 2 (wrong usage) or 130 (interrupted)."""
    from . import audit, convert, demo, encode, evaluate, generate, serve, theory, train  # noqa: F401  (they register themselves)
    from .flags import message, running_command

    try:
        status = app(standalone_mode=False)
    except SingDiffusionError as error:
        command = running_command(typer.main.get_command(app), sys.argv[1:])
        _fail(message(error, command), getattr(error, "status", 1))
    except (typer.Abort, KeyboardInterrupt):
        _fail(INTERRUPTED, 130)
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}", 1)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # not a mistake: the help is the table of contents
            print(error.ctx.get_help())  # type: ignore[attr-defined]
            sys.exit(0)
        if hasattr(error, "format_message"):  # a usage error of the command line
            _fail(f"{error.format_message()} (see --help)", getattr(error, "exit_code", 2))  # type: ignore[attr-defined]
        raise
    if status == 130:  # typer turns Ctrl-C into this status
        _fail(INTERRUPTED, 130)
    sys.exit(status or 0)


def _fail(line: str, status: int) -> None:
    print("error: " + " ".join(line.split()), file=sys.stderr)
    sys.exit(status)
