"""The running call of a pipeline, read from the stack: what it keeps in local variables only, and whether another thread runs one.

diffusers has no public way to either. ``tests/plugin/test_private_api.py`` fails when the frames change.
"""

from __future__ import annotations

import inspect
import sys
import threading
from types import FrameType
from typing import Any

from ..errors import SingDiffusionError


def local_of_call(pipe: Any, name: str) -> Any:
    """Return a local variable of the pipeline's ``__call__`` that runs in this thread.

    Some pipelines (PixArt) keep their guidance scale nowhere else.

    Raises:
        SingDiffusionError: there is no such call, or it has no such variable.
    """
    frame = _call(pipe, inspect.currentframe())
    if frame is None or name not in frame.f_locals:
        raise SingDiffusionError(f"{type(pipe).__name__} has no variable {name}; this version is not supported")
    return frame.f_locals[name]


def runs_elsewhere(pipe: Any) -> bool:
    """Return whether the pipeline's ``__call__`` runs in this thread and in another thread as well."""
    if _call(pipe, inspect.currentframe()) is None:  # a lone call of encode_prompt or prepare_latents is harmless
        return False
    here = threading.get_ident()
    return any(_call(pipe, frame) is not None for ident, frame in sys._current_frames().items() if ident != here)


def _call(pipe: Any, frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of ``pipe.__call__`` at or below ``frame``."""
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_locals.get("self") is pipe:
            return frame
        frame = frame.f_back
    return None
