"""Where every command ends: its exit status, and one line on stderr for whatever went wrong."""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .. import __version__
from ..errors import SingDiffusionError, one_line, visible_line

FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM
_KEPT = "finished files are kept, none is half-written"
GRACE = 5.0  # seconds in which a library must return to Python after SIGTERM, before the process ends without it


class Terminated(BaseException):
    """SIGTERM came."""


def run(command: Callable[[], Any], describe: Callable[[SingDiffusionError], str], debug: bool) -> int:
    """Run a command and return its exit status.

    Args:
        command: it returns a status or None.
        describe: returns the line for a mistake in the input.
        debug: print the traceback of an error.
    """
    try:
        with _terminable():
            status = command()
            sys.stdout.flush()
    except BaseException as error:  # this is the end of the process
        return _failed(error, describe, debug)
    # typer turns Ctrl-C into this status
    return _say(f"interrupted; {_KEPT}", INTERRUPTED) if status == INTERRUPTED else status or 0


def _failed(error: BaseException, describe: Callable[[SingDiffusionError], str], debug: bool) -> int:
    """Print one line about an error, and return the exit status."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED if error.code else 0
    if type(error).__name__ == "NoArgsIsHelpError":  # not a mistake: the help is the table of contents
        print(error.ctx.get_help())  # type: ignore[attr-defined]
        return 0
    if debug:
        traceback.print_exception(error)
    if isinstance(error, SingDiffusionError):
        return _say(describe(error), getattr(error, "status", FAILED))
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return _say(f"interrupted; {_KEPT}", INTERRUPTED)
    if isinstance(error, Terminated):
        return _say(f"stopped by SIGTERM; {_KEPT}", TERMINATED)
    if hasattr(error, "format_message"):  # a usage error of the command line
        return _say(f"{error.format_message()} (see --help)", getattr(error, "exit_code", USAGE))  # type: ignore[attr-defined]
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would flush into the pipe once more
        return _say("the output was closed before its end", FAILED)
    if _is_memory(error):
        return _say(f"the memory is full: {one_line(error)}", FAILED)
    if isinstance(error, OSError) and error.strerror:
        return _say(f"{error.filename}: {error.strerror}" if error.filename else error.strerror, FAILED)
    place = "see above" if debug else f"the traceback is in {_written(error)} (--debug prints it)"
    return _say(f"unexpected {type(error).__name__}: {one_line(error)}; {place}", FAILED)


def _is_memory(error: BaseException) -> bool:
    # torch's error on a device is a RuntimeError, and on the CPU one without a class of its own
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _say(line: str, status: int) -> int:
    with suppress(OSError, ValueError):  # stderr may be closed
        print("error: " + visible_line(line), file=sys.stderr, flush=True)
    return status


def _written(error: BaseException) -> str:
    """Write the traceback into a new file, and return its name."""
    lines = [
        f"singdiffusion {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
        f"arguments: {sys.argv[1:]!r}\n",
        *traceback.format_exception(error),
    ]
    try:
        handle, name = tempfile.mkstemp(prefix="singdiffusion-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(lines)
    except OSError:
        return "no file, because none could be written"
    return name


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise ``Terminated`` inside the block when SIGTERM comes; end the process if a library does not return to Python by then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    woken = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_grace, args=(readable,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        os.close(writable)
        # another handler stays: training ignores the signal until it has printed why it ends
        if signal.getsignal(signal.SIGTERM) is _terminate:
            signal.signal(signal.SIGTERM, before)


def _terminate(*_: Any) -> None:
    raise Terminated


def _end_after_grace(readable: int) -> None:
    """See signals also while a library computes, until the other end of the pipe is closed."""
    while number := os.read(readable, 1):
        if number[0] == signal.SIGTERM and signal.getsignal(signal.SIGTERM) is _terminate:
            time.sleep(GRACE)
            _say("stopped by SIGTERM", TERMINATED)
            os._exit(TERMINATED)
    os.close(readable)


def _forget() -> None:
    """Let a child process end at SIGTERM as usual, and not write into its parent's pipe."""
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)
