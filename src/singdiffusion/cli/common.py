"""What the commands share: quiet libraries, progress, checked options, pictures for a ControlNet, JSON."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import SingDiffusionError, install_hint, one_line, visible

console = Console(stderr=True)

LINE_EVERY = 30.0  # seconds between two lines of progress in a log


def hush(level: int = logging.ERROR) -> None:
    """Keep libraries' messages up to a level off the terminal; a failure is one line of our own."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    logging.disable(level)
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def say(line: object) -> None:
    """Print a line on stderr; whatever it holds is shown and not obeyed."""
    console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


def show(line: object) -> None:
    """Print a line of the result on stdout; whatever it holds is shown and not obeyed."""
    typer.echo(visible(line))


def stays(pipe: Any, reason: str | None) -> str:
    """Return a line about a pipeline that SingDiffusion leaves alone."""
    return f"{type(pipe).__name__} stays as it is: {reason}"


def announce(name: str, pipe: Any) -> None:
    """Print, on stderr, which model runs on which device and in which precision: "tiny on cpu, float32"."""
    from ..painting.devices import describe

    say(f"{name} on {describe(pipe)}")


def module_for(pipe: Any, module: str, shown: bool = True) -> str | None:
    """Return the name of a module; for "auto" that of the module that fits, after a line on stderr about it.

    For a pipeline that stays as it is "auto" is None, after a line with the reason.

    Args:
        pipe: the pipeline.
        module: as given on the command line.
        shown: False for all but the first of several processes.

    Raises:
        SingDiffusionError: none fits, or the one that fits cannot be had.
    """
    from .. import tiny
    from ..plugin.choice import choose_for, module_dtype
    from ..plugin.pipelines import untouched

    if module != "auto":
        return module
    choice = choose_for(pipe, module_dtype(pipe))
    if choice is None:
        lines = [stays(pipe, untouched(pipe))]
    else:
        named = [] if choice.source in tiny.MODULES else [choice.line]  # of the embedded ones nothing need be known
        lines = [*choice.passed_over, *named]
    for line in lines if shown else ():
        say(line)
    return None if choice is None else choice.source


class Advance(Protocol):
    """Move a progress bar on by ``count``, with a few words beside it."""

    def __call__(self, count: int = 1, *, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: int, shown: bool = True) -> Iterator[Advance]:
    """Show progress on stderr: a bar on a terminal, otherwise a line every 30 seconds.

    Args:
        title: what is done.
        total: number of steps.
        shown: False for all but the first of several processes.
    """
    if not shown:
        yield lambda count=1, *, note="": None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda count=1, *, note="": bar.update(
                task, advance=count, description=f"{title}: {note}" if note else title
            )
    else:
        yield _Lines(title, total)


class _Lines:
    """Progress in a log."""

    def __init__(self, title: str, total: int):
        self.title, self.total, self.done, self.last = title, total, 0, time.monotonic()

    def __call__(self, count: int = 1, *, note: str = "") -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last >= LINE_EVERY:
            self.last = now
            line = f"{self.title}: {self.done} of {self.total}" + (f", {note}" if note else "")
            say(line)


def finite(name: str, value: float) -> float:
    """Return ``value``.

    Raises:
        SingDiffusionError: it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise SingDiffusionError(f"{name} must be a finite number, not {value}")
    return value


@contextmanager
def extra(name: str, command: str) -> Iterator[None]:
    """Turn the import error of an optional package inside the block into one line with the command that installs it.

    Args:
        name: the extra of this package that brings the other one.
        command: what needs it.
    """
    try:
        yield
    except ImportError as error:
        if error.name is None:  # raised by hand, such as httpx's "Using SOCKS proxy, but ..."
            raise SingDiffusionError(f"{command} cannot import what it needs: {one_line(error)}") from error
        raise SingDiffusionError(
            f"{command} needs {error.name}, which is not installed: {install_hint(name)}"
        ) from error


def control_image(pipe: Any, file: Path | None, model: str) -> Any:
    """Return the picture that a ControlNet follows, RGB, or None for a pipeline without one.

    Args:
        pipe: the pipeline.
        file: a picture, or the name of one that comes with an embedded model.
        model: name of the pipeline's model.

    Raises:
        SingDiffusionError: a ControlNet without a picture, a picture without a ControlNet, or a file that is not a picture.
    """
    from ..painting.controls import needs_control, read_control

    return read_control(file, own_hints(model), print_note) if needs_control(pipe, file) else None  # type: ignore[arg-type]


def print_note(line: str) -> None:
    """Print a line on stderr about something that a reader of the result must know."""
    say(f"note: {line}")


def own_hints(model: str) -> dict[str, Any]:
    """Return name -> picture of edges for a ControlNet, as they come with the embedded models; {} for other models."""
    from .. import tiny

    return tiny.hints() if model in tiny.MODELS else {}


def write_json(file: Path | None, figures: dict[str, Any]) -> None:
    """Write ``--json FILE`` where it was asked for."""
    if file is not None:
        from ..files import output_folder, write_whole

        output_folder(file.parent)
        write_whole(file, json.dumps(figures, indent=2) + "\n")


def check_json(file: Path | None) -> None:
    """Check before the work that ``--json FILE`` can be written.

    Raises:
        SingDiffusionError: it cannot.
    """
    if file is not None:
        from ..files import check_folder

        if file.is_dir():
            raise SingDiffusionError(f"--json {file} is a folder; name a file")
        check_folder(file.parent)
