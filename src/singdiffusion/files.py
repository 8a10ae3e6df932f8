"""Write files as a whole, check output folders before the work begins, read JSON objects."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import SingDiffusionError


def output_folder(folder: Path) -> Path:
    """Make a folder, write a file into it as a trial, and return it.

    Raises:
        SingDiffusionError: the name is a file's, or the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SingDiffusionError(f"cannot write into the folder {folder}: {error.strerror or error}") from error
    return folder


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
    target = Path(os.path.realpath(file))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if file.exists() and not file.is_file():
            file.write_bytes(data)
        else:
            partial.write_bytes(data)
            os.replace(partial, target)
    except OSError as error:
        raise SingDiffusionError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return file


def share(file: Path) -> None:
    """Give a file the permissions that any new file has here; safetensors writes files that only their owner may read."""
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)


def bare_name(name: str) -> str:
    """Return a model's or module's name without this machine's folders: of a path that exists only the last part."""
    return os.path.basename(os.path.abspath(name)) if os.path.exists(name) else name


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        SingDiffusionError: the file cannot be read, is not JSON, or holds something other than an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SingDiffusionError(f"{file} cannot be read as JSON: {reason}") from error
    if not isinstance(content, dict):
        raise SingDiffusionError(f"{file} must hold a JSON object, not a {type(content).__name__}")
    return content
