"""What the commands share: quiet libraries, progress, checked options, loading models."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import SingDiffusionError

console = Console(stderr=True)

DTYPES = ("float32", "bfloat16", "float16")


def hush(level: int = logging.ERROR) -> None:
    """Keep libraries' chatter off the user's terminal, up to a level; what goes wrong is said by us, in one line."""
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


@contextmanager
def progress(title: str, total: int) -> Iterator[Any]:
    """A progress bar on stderr; yields a function that advances it by one. In a log: a line every now and then."""
    if not console.is_terminal:
        yield _told_by_lines(title, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count=1: bar.advance(task, count)


LINE_EVERY = 30.0  # seconds


def _told_by_lines(title: str, total: int) -> Callable[..., None]:
    done, last = 0, time.monotonic()

    def advance(count: int = 1) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            console.print(f"{title}: {done} of {total}")

    return advance


def finite(name: str, value: float) -> float:
    """``value``, or a SingDiffusionError that names it when it is NaN or infinite."""
    if not math.isfinite(value):
        raise SingDiffusionError(f"{name} must be a finite number, not {value}")
    return value


def torch_dtype(name: str) -> Any:
    """float32, bfloat16 or float16 as torch's dtype."""
    import torch

    if name not in DTYPES:
        raise SingDiffusionError(f"unknown dtype {name!r}; known: {', '.join(DTYPES)}")
    return getattr(torch, name)


def torch_device(name: str) -> Any:
    """A device that is really there."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SingDiffusionError(f"the device {name!r} is not available here; try cpu") from error
    if device.type == "meta":
        raise SingDiffusionError("the device 'meta' computes nothing; try cpu")
    return device


@contextmanager
def extra(name: str, command: str) -> Iterator[None]:
    """A package of an optional extra that is not installed becomes one line that says how to get it."""
    try:
        yield
    except ImportError as error:
        raise SingDiffusionError(
            f"{command} needs {error.name}, which is not installed: pip install 'singdiffusion[{name}]'"
        ) from error


def control_image(pipe: Any, file: Path | None, model: str) -> Any:
    """Return the picture that a ControlNet follows; None where the pipeline has no ControlNet.

    Args:
        file: a picture, or the name of one of the embedded model's own.
    """
    from ..painting.controls import needs_control, read_control

    return read_control(file, own_hints(model)) if needs_control(pipe, file) else None  # type: ignore[arg-type]


def own_hints(model: str) -> dict[str, Any]:
    """Name -> edges that come with an embedded model."""
    from .. import tiny

    return tiny.hints() if model in tiny.MODELS else {}


def write_json(file: Path | None, figures: dict[str, Any]) -> None:
    """Write ``--json FILE`` where it was asked for."""
    if file is not None:
        from ..files import write_whole

        write_whole(file, json.dumps(figures, indent=2) + "\n")


def check_json(file: Path | None) -> None:
    """Find out before the work whether ``--json FILE`` can be written."""
    if file is not None:
        from ..files import output_folder

        if file.is_dir():
            raise SingDiffusionError(f"--json {file} is a folder; name a file")
        output_folder(file.parent)
