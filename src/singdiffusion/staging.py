"""Put a new file or folder in the place of an old one, whole or not at all, and clear what a killed process left.

What is written is prepared in a folder beside the target, ``.singdiffusion-RANDOM``. Its name is new, so it is never a user's. It holds
a locked file, which is free again once its process is dead, and a mark that names the target: both together make it ours.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from .errors import SingDiffusionError, reason

PREFIX = ".singdiffusion-"
_LOCK, _MARK, _NEW, _OLD = "lock", "mark.json", "new", "old"
_MOST = 100_000  # bytes of a mark
YOUNG = 10.0  # seconds in which a process that has made its folder writes the mark

_cleared: set[Path] = set()  # folders whose leftovers this process has looked for


@contextmanager
def staged(target: Path, owned: Collection[str] = ()) -> Iterator[Path]:
    """Yield a path for a new file or folder; when the block ends without an error, it takes the target's place.

    Links are followed. A killed process leaves the old target or the new one, or a state that ``put_right`` mends.

    Args:
        target: a file or a folder. The folder in which it lies must exist.
        owned: for a folder, patterns of the files in it that are replaced, such as "module/*.safetensors". All others are kept.

    Raises:
        SingDiffusionError: the disk is full, or the target cannot be written. Other errors inside the block pass.
    """
    final = Path(os.path.realpath(target))
    if final.parent not in _cleared:
        put_right(final.parent)
        _cleared.add(final.parent)
    try:
        with _stage(final, owned) as stage:
            yield stage / _NEW
            _swap(stage, final, owned)
    except (OSError, SafetensorError) as error:
        raise SingDiffusionError(f"cannot write {target}: {reason(error)}") from error


def discard(target: Path) -> None:
    """Delete a file or folder: it leaves its place at once, and what a killed process leaves of it ``put_right`` removes.

    Raises:
        SingDiffusionError: it cannot be deleted.
    """
    try:
        with _stage(target, ()) as stage:
            os.replace(target, stage / _NEW)
    except OSError as error:
        raise SingDiffusionError(f"cannot delete {target}: {reason(error)}") from error


@contextmanager
def _stage(target: Path, owned: Collection[str]) -> Iterator[Path]:
    """Make our folder beside a target, marked and locked; remove it when the block ends."""
    stage = Path(tempfile.mkdtemp(prefix=PREFIX, dir=target.parent))
    try:
        with FileLock(stage / _LOCK):
            mark = {"folder": stage.name, "target": target.name, "owned": list(owned)}
            (stage / _MARK).write_text(json.dumps(mark), encoding="utf-8")
            yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _swap(stage: Path, target: Path, owned: Collection[str]) -> None:
    """Rename the new file or folder to the target. A full folder cannot be renamed over, so an old one is renamed first."""
    new, old = stage / _NEW, stage / _OLD
    if not new.is_dir() or not target.exists():
        os.replace(new, target)
        return
    try:
        os.replace(target, old)
        os.replace(new, target)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            os.replace(old, target)
        raise
    _keep(old, target, owned)


def _keep(old: Path, target: Path, owned: Collection[str], inside: str = "") -> None:
    """Move the files of an old folder that are not ours into the new one."""
    for entry in old.iterdir() if old.is_dir() else ():
        name, there = inside + entry.name, target / entry.name
        if any(fnmatchcase(name, pattern) for pattern in owned):
            continue
        if entry.is_dir() and not entry.is_symlink() and any(pattern.startswith(f"{name}/") for pattern in owned):
            _keep(entry, there, owned, f"{name}/")
        elif not os.path.lexists(there):
            there.parent.mkdir(exist_ok=True)
            os.replace(entry, there)


def put_right(folder: Path) -> None:
    """Remove what killed processes left in a folder. A target that one of them had moved away gets its new content.

    No other folder is touched: not one without our mark, and not that of a process that is still at work.
    """
    for stage in sorted(folder.glob(f"{PREFIX}*")):
        with suppress(OSError, Timeout, NotImplementedError):
            mark = _mark_of(stage)
            if mark is None and not _is_empty(stage):
                continue
            with FileLock(stage / _LOCK, timeout=0):
                if mark is not None:
                    _finish(stage, folder / mark["target"], mark["owned"])
                shutil.rmtree(stage, ignore_errors=True)


def restored(target: Path) -> Path:
    """Return a target; where it is missing, first put right what a killed process may have left beside it."""
    if not target.exists():
        put_right(Path(os.path.realpath(target)).parent)
    return target


def _finish(stage: Path, target: Path, owned: Collection[str]) -> None:
    """Finish a swap that began, which it did only with a complete new folder."""
    new, old = stage / _NEW, stage / _OLD
    if not os.path.lexists(old):
        return
    if not os.path.lexists(target):
        os.replace(new if new.exists() else old, target)
    _keep(old, target, owned)


def _is_empty(stage: Path) -> bool:
    """Whether a folder has a name of ours and nothing in it: its process died before the mark was written."""
    if not re.fullmatch(re.escape(PREFIX) + "[a-z0-9_]{8}", stage.name) or stage.is_symlink():
        return False
    empty = all(entry.name in (_LOCK, _MARK) and entry.lstat().st_size == 0 for entry in stage.iterdir())
    return empty and time.time() - stage.stat().st_mtime > YOUNG


def _mark_of(stage: Path) -> dict | None:
    """Return the mark of a folder that is ours, or None. Ours has no links, which could lead to files of others."""
    try:
        inside = (stage / name for name in (_LOCK, _MARK, _NEW, _OLD))
        if stage.is_symlink() or any(path.is_symlink() for path in inside) or not (stage / _LOCK).is_file():
            return None
        with (stage / _MARK).open("rb") as opened:
            mark = json.loads(opened.read(_MOST))
        ours = mark["folder"] == stage.name and Path(mark["target"]).name == mark["target"] != ""
        return mark if ours and isinstance(mark["owned"], list) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
