"""What remedies that use the plug-in have in common: enabled inside a ``with`` block, and why a pipeline cannot have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ...errors import SingDiffusionError
from ...plugin import SingDiffusion
from ...plugin.pipelines import untouched


@contextmanager
def plugged(sing: SingDiffusion, pipe: Any, **options: Any) -> Iterator[dict[str, Any]]:
    """Enable ``sing`` on a pipeline inside the block, with the options of ``SingDiffusion.enable``.

    Raises:
        SingDiffusionError: it does not fit this pipeline.
    """
    sing.enable(pipe, **options)
    try:
        yield {}
    finally:
        sing.disable()


def refusal(pipe: Any, applied: AbstractContextManager[Any]) -> str | None:
    """Return why a pipeline cannot have ``applied``, by entering it without painting; None where it can."""
    reason = untouched(pipe)
    if reason is not None:
        return reason
    try:
        with applied:
            return None
    except SingDiffusionError as error:
        return str(error)


class Plugged:
    """A remedy by ``SingDiffusion``: each subclass returns the enabled plug-in from ``applied``."""

    def applied(self, pipe: Any) -> AbstractContextManager[dict[str, Any]]:
        """Return the pipeline's ``with`` block, as in ``Remedy``."""
        raise NotImplementedError

    def unfit(self, pipe: Any) -> str | None:
        """Return why this model cannot have it; None where it can."""
        return refusal(pipe, self.applied(pipe))

    def networks(self) -> list[Any]:
        """Return the networks that it needs in memory."""
        return []
