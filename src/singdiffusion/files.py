"""Files that are there whole or not at all, in folders that are tried before the work begins."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from .errors import SingDiffusionError


def output_folder(folder: Path) -> Path:
    """Make a folder and try to write into it.

    Raises:
        SingDiffusionError: it is a file, or cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SingDiffusionError(f"cannot write into the folder {folder}: {error.strerror or error}") from error
    return folder


def write_whole(file: Path, content: bytes | str) -> Path:
    """Write beside the target and rename: a killed process leaves the old file or the new one.

    Raises:
        SingDiffusionError: the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, file)
    except OSError as error:
        raise SingDiffusionError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return file
