"""Interruptions of a run: signals, processes that die, full memory or disk, a loss that is not finite."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..errors import SingDiffusionError, one_line
from .accelerator import lost_connection
from .checkpoints import CheckpointStore

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SingDiffusionError):
    """A signal stopped the run after a step, and a checkpoint is written.

    Attributes:
        status: exit status of the command, 128 + the signal's number.
    """

    def __init__(self, number: int, step: int, then: str = "run the same command to resume"):
        super().__init__(f"stopped by {signal.Signals(number).name} at step {step}; a checkpoint is written, {then}")
        self.status = 128 + number


class StopSignal:
    """Notes SIGTERM and SIGINT, which the loop looks at after each step; a second SIGINT stops at once.

    Attributes:
        number: of the signal that came; 0: none.
    """

    number = 0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Handle the two signals inside the block; outside the main thread they are left alone."""
        try:
            before = {number: signal.signal(number, self._note) for number in SIGNALS}
        except ValueError:  # not in the main thread
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) == self._note:
                    signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


def begin_worker(_: int) -> None:
    """Make a worker that reads batches ignore the two signals: the step in hand needs it, and it ends with its parent.

    Its thread that hands tensors over may then lose its connection (``multiprocessing.resource_sharer``), which is not printed.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    usual = sys.excepthook
    sys.excepthook = lambda kind, *rest: None if issubclass(kind, ConnectionError | EOFError) else usual(kind, *rest)


@contextmanager
def one_line_faults(accelerator: Accelerator, checkpoints: CheckpointStore, micro: int, out: Path) -> Iterator[None]:
    """Turn what the libraries raise inside the block into one line that names what to do.

    Args:
        micro: pictures that a process takes at once.
        out: folder of the run.

    Raises:
        SingDiffusionError: memory or disk is full, or another process or a worker is gone. Other errors pass unchanged.
    """
    try:
        yield
    except SingDiffusionError:
        raise
    except torch.OutOfMemoryError as error:
        raise SingDiffusionError(
            f"the device's memory is full with {micro} pictures at once; use a smaller micro_batch, or gradient_checkpointing",
            setting="micro_batch",
        ) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        last = checkpoints.last()
        resumes = "from the start" if last is None else f"after {last.name}"
        # torch reports a lost worker by its name, or its queue breaks off first
        if "DataLoader worker" in str(error) or not isinstance(error, RuntimeError):
            raise SingDiffusionError(
                f"a process that reads batches is gone: {one_line(error)}; run the same command to resume {resumes}"
            ) from error
        if accelerator.num_processes == 1 or not lost_connection(error):
            raise
        _ignore_sigterm()
        raise SingDiffusionError(
            f"process {accelerator.process_index} stops: another process of the group is gone; start all of them again "
            f"to resume {resumes}"
        ) from error
    except OSError as error:
        raise SingDiffusionError(f"{error.filename or out}: {error.strerror or error}") from error


def _ignore_sigterm() -> None:
    """Let a process whose group is gone end by itself: torchrun sends SIGTERM, which would end it before it prints the reason."""
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
