"""Write files as a whole, and check output folders before the work begins."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from .errors import SingDiffusionError, reason
from .staging import staged


def output_folder(folder: Path) -> Path:
    """Make a folder, write a file into it as a trial, and return it.

    Raises:
        SingDiffusionError: the name is a file's, or the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise SingDiffusionError(f"cannot write into the folder {folder}: {reason(error)}") from error
    return folder


def check_folder(folder: Path) -> Path:
    """Check before the work that a folder can be made and written to, and return it. Nothing is left behind: work that is refused makes none.

    Raises:
        SingDiffusionError: as for ``output_folder``.
    """
    new = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    output_folder(folder)
    for each in new:
        with suppress(OSError):  # another process has written into it
            each.rmdir()
    return folder


def require_writable(target: Path) -> None:
    """Check that something can be made under a name, by a trial in the nearest folder above it that exists.

    Raises:
        SingDiffusionError: it cannot.
    """
    try:
        with suppress(FileNotFoundError):
            os.lstat(target)  # a name that no file can have
        above = Path(os.path.realpath(target)).parent
        while not os.path.lexists(above):
            above = above.parent
        with tempfile.TemporaryFile(dir=above):
            pass
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise SingDiffusionError(f"cannot write {target}: {reason(error)}") from error


def write_whole(file: Path, content: bytes | str) -> Path:
    """Write a file beside its target and rename it, so that a killed process leaves the old file or the new one.

    Links are followed. Pipes and devices, such as ``/dev/stdout``, are written to directly.

    Args:
        file: target; its folder must exist.
        content: text is written as UTF-8.

    Returns:
        The target.

    Raises:
        SingDiffusionError: the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if file.exists() and not file.is_file():
        try:
            file.write_bytes(data)
        except OSError as error:
            raise SingDiffusionError(f"cannot write {file}: {reason(error)}") from error
        return file
    with staged(file) as new:
        new.write_bytes(data)
    return file


def share(file: Path) -> None:
    """Give a file the permissions that any new file has here; safetensors writes files that only their owner may read."""
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)


def bare_name(name: str) -> str:
    """Return a model's or module's name without this machine's folders: of a path that exists only the last part."""
    return os.path.basename(os.path.abspath(name)) if os.path.exists(name) else name
