"""Keep a folder for one process, so that a second one does not disturb it."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from .errors import SingDiffusionError, visible

PATIENCE = 20.0  # seconds in which the children of a killed process end, which hold its lock as long as they live


@contextmanager
def locked(folder: Path, task: str) -> Iterator[None]:
    """Hold a folder for a task until the block ends or the process dies.

    The lock of a dead process is free: the system releases it. Two files stay in the folder, ``.TASK.lock`` and ``.TASK.json``.

    Args:
        folder: it must exist.
        task: what is done there, in one word, such as "train". Other tasks may use the folder at the same time.

    Raises:
        SingDiffusionError: a process that is alive holds it; the message names it.
    """
    holder = folder / f".{task}.json"
    lock = FileLock(folder / f".{task}.lock")
    _acquire(lock, folder, task, holder)
    try:
        with suppress(OSError):  # only for the message
            holder.write_text(json.dumps(_myself()) + "\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, folder: Path, task: str, holder: Path) -> None:
    last = time.monotonic() + PATIENCE
    while True:
        try:
            lock.acquire(timeout=0.2)
            return
        except Timeout as error:
            process = _read(holder)
            if _alive(process) or time.monotonic() > last:
                raise SingDiffusionError(
                    f"{folder} is in use by {_described(process)}; wait until it ends, stop it, or name another folder"
                ) from error
        except (OSError, NotImplementedError) as error:
            raise SingDiffusionError(f"cannot lock {folder} for {task}: {error}") from error


def _myself() -> dict[str, object]:
    return {
        "process": os.getpid(),
        "started": psutil.Process().create_time(),
        "host": socket.gethostname(),
        "command": " ".join(sys.argv)[:500],
    }


def _read(holder: Path) -> dict[str, object]:
    try:
        with holder.open("rb") as opened:
            found = json.loads(opened.read(10_000))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(process: dict[str, object]) -> bool:
    """Whether the process that wrote this is alive, as far as can be seen from this machine; a new one may have its number."""
    number = process.get("process")
    if process.get("host") != socket.gethostname() or not isinstance(number, int):
        return bool(process)
    try:
        return psutil.Process(number).create_time() == process.get("started")
    except psutil.Error:
        return False


def _described(process: dict[str, object]) -> str:
    if not process:
        return "another process"
    return visible(f"process {process.get('process')} on {process.get('host')} ({process.get('command')})")
