"""What every remedy for the wrong start provides: whether it fits, what its pictures depend on, and how it is applied."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Remedy(Protocol):
    """A way to start sampling. ``off`` is one too: the pipeline as it is."""

    @property
    def name(self) -> str:
        """Key in JSON and files: letters, digits and dashes."""
        ...

    @property
    def title(self) -> str:
        """Name in tables."""
        ...

    @property
    def needs(self) -> str:
        """What must be trained for it, in a few words: "nothing", "a module for the latent space", "the base, retrained"."""
        ...

    def unfit(self, pipe: Any) -> str | None:
        """Return why this model cannot have it; None where it can."""
        ...

    def settings(self, pipe: Any) -> dict[str, Any]:
        """Return everything that its pictures depend on in addition to the pipeline; JSON. Galleries are kept apart by it."""
        ...

    def applied(self, pipe: Any) -> AbstractContextManager[dict[str, Any]]:
        """Apply the remedy to the pipeline inside a ``with`` block and undo it afterwards; yields more options for the call."""
        ...

    def networks(self) -> list[Any]:
        """Return the networks that it needs in memory; some may be the pipeline's own."""
        ...


@dataclass(frozen=True)
class Absent:
    """A remedy that could not be measured.

    Attributes:
        name: as in ``Remedy``.
        title: as in ``Remedy``.
        needs: as in ``Remedy``.
        reason: why, in one line.
    """

    name: str
    title: str
    needs: str
    reason: str

    @classmethod
    def of(cls, remedy: Remedy, reason: str) -> Absent:
        """Make one from a remedy that does not fit."""
        return cls(remedy.name, remedy.title, remedy.needs, reason)
