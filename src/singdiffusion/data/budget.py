"""A share of the memory that threads take parts of and give back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..memory import free_memory

SHARE = 0.5  # of the free memory; the rest is for the model at work


class Budget:
    """Memory for pictures in flight.

    Args:
        total: bytes; None: half of what is free now.
    """

    def __init__(self, total: int | None = None):
        self.total = int(SHARE * free_memory()) if total is None else total
        self._left = self.total
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Take bytes for the block, as soon as there are so many left; they must not be more than ``total``."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= count)
            self._left -= count
        try:
            yield
        finally:
            with self._changed:
                self._left += count
                self._changed.notify_all()
