"""What remedies that use the plug-in have in common: plugged in inside a ``with`` block, and why a pipeline cannot have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ...errors import SingDiffusionError
from ...plugin import SingDiffusion
from ...plugin.pipelines import untouched


@contextmanager
def plugged(sing: SingDiffusion, pipe: Any, **options: Any) -> Iterator[dict[str, Any]]:
    """``sing`` enabled on a pipeline inside the block, with the options of ``SingDiffusion.enable``.

    Raises:
        SingDiffusionError: it does not go with this pipeline.
    """
    sing.enable(pipe, **options)
    try:
        yield {}
    finally:
        sing.disable()


def refusal(pipe: Any, applied: AbstractContextManager[Any]) -> str | None:
    """Why a pipeline cannot have what ``applied`` would do: found out by doing it, without painting."""
    reason = untouched(pipe)
    if reason is not None:
        return reason
    try:
        with applied:
            return None
    except SingDiffusionError as error:
        return str(error)
