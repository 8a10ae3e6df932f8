"""What a pipeline's running call knows and does not say: its frames, in this thread and in others."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from ..errors import SingDiffusionError


def local_of_call(pipe: Any, name: str) -> Any:
    """A local variable of the pipeline's ``__call__`` that runs in this thread.

    Some pipelines (PixArt) keep their guidance scale nowhere else.

    Raises:
        SingDiffusionError: there is no such call, or it has no such variable.
    """
    frame = _call(pipe, sys._getframe())
    if frame is None or name not in frame.f_locals:
        raise SingDiffusionError(f"{type(pipe).__name__} does not say its {name}; this version is not supported")
    return frame.f_locals[name]


def runs_elsewhere(pipe: Any) -> bool:
    """Whether the pipeline's ``__call__`` runs here and in another thread as well."""
    if _call(pipe, sys._getframe()) is None:  # somebody only prepares something, which harms nobody
        return False
    here = threading.get_ident()
    return any(_call(pipe, frame) is not None for ident, frame in sys._current_frames().items() if ident != here)


def _call(pipe: Any, frame: FrameType | None) -> FrameType | None:
    """The innermost frame of ``pipe.__call__`` under ``frame``."""
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_locals.get("self") is pipe:
            return frame
        frame = frame.f_back
    return None
