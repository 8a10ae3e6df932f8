"""A warning for who makes another pipeline of an enabled one's parts: the other one is not enabled."""

from __future__ import annotations

import sys
from typing import Any

from diffusers import DiffusionPipeline

from .hooks import Hook

_LIBRARIES = ("diffusers.", "accelerate.", "singdiffusion.")  # which look at components for other reasons


def watch_components() -> None:
    """Let ``DiffusionPipeline.components`` warn for enabled pipelines; once is enough, and others are not affected.

    ``from_pipe``, the ``AutoPipeline`` classes and ``Pipeline(**pipe.components)`` all read this property, and no method of the
    instance. Its value stays what it was.
    """
    if not isinstance(DiffusionPipeline.components, _Components):
        DiffusionPipeline.components = _Components(DiffusionPipeline.components.fget)


class _Components(property):
    """diffusers' property, followed by the warning."""

    def __get__(self, pipe: Any, owner: type | None = None) -> Any:
        found = super().__get__(pipe, owner)
        hook = None if pipe is None else next((each for each in vars(pipe).values() if isinstance(each, Hook)), None)
        if hook is not None and hook.is_active and _is_taken():
            hook.warn(
                f"SingDiffusion is enabled on this {type(pipe).__name__} only; a pipeline made of its components is not enabled: call "
                "SingDiffusion(sing.module).enable(other)"
            )
        return found


def _is_taken() -> bool:
    """Return whether ``from_pipe``, or code outside the libraries, reads the property."""
    frame = sys._getframe(2)
    while frame.f_code.co_name.startswith("<") and frame.f_back is not None:  # comprehensions
        frame = frame.f_back
    name = f"{frame.f_globals.get('__name__', '')}."
    return frame.f_code.co_name == "from_pipe" or not name.startswith(_LIBRARIES)
