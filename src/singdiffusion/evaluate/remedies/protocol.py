"""What every remedy for the wrong start is asked: does it fit, what does it depend on, and to be there for a while."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Remedy(Protocol):
    """A way to start sampling. ``off`` is one too: the pipeline as it is."""

    @property
    def name(self) -> str:
        """Its key in JSON and files: letters, digits and dashes."""
        ...

    @property
    def title(self) -> str:
        """What a table calls it."""
        ...

    @property
    def needs(self) -> str:
        """What has to be trained for it, in a few words: "nothing", "a module for the latent space", "the base, retrained"."""
        ...

    def unfit(self, pipe: Any) -> str | None:
        """Why this model cannot have it, None where it can."""
        ...

    def settings(self, pipe: Any) -> dict[str, Any]:
        """Whatever its pictures depend on besides the pipeline; JSON. It tells galleries apart."""
        ...

    def applied(self, pipe: Any) -> AbstractContextManager[dict[str, Any]]:
        """The pipeline with the remedy, inside a ``with`` block, and as it was after it; yields more options for the call."""
        ...

    def networks(self) -> list[Any]:
        """Networks that it holds in memory beside the pipeline's."""
        ...


@dataclass(frozen=True)
class Absent:
    """A remedy that a table has no column for, and why, in one line.

    Attributes:
        name: as a ``Remedy``'s.
        title: likewise.
        needs: likewise.
        reason: for people.
    """

    name: str
    title: str
    needs: str
    reason: str

    @classmethod
    def of(cls, remedy: Remedy, reason: str) -> Absent:
        return cls(remedy.name, remedy.title, remedy.needs, reason)
