"""No remedy: the pipeline as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Off:
    """The pipeline as it is, from N(0, I)."""

    name, title, needs = "off", "without", "nothing"

    def unfit(self, pipe: Any) -> None:
        return None

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": self.name}

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[dict[str, Any]]:
        yield {}

    def networks(self) -> list[Any]:
        return []
