"""Paint one request at a time, in the order of asking; when too many wait, further ones are refused at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import SingDiffusionError
from .settings import Settings
from .studio import Result, Studio

EVERY = 0.2  # seconds between two reports of progress; the result itself follows at once


@dataclass(frozen=True)
class Progress:
    """Progress of a request.

    Attributes:
        ahead: requests that are painted before it.
        part: ``off`` or ``on``; empty while it waits.
        step, steps: denoising steps of that part, done and in all.
    """

    ahead: int = 0
    part: str = ""
    step: int = 0
    steps: int = 0


@dataclass(eq=False)
class _Ticket:
    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: Progress = Progress()

    def on_step(self, part: str, step: int, steps: int) -> None:
        self.progress = Progress(0, part, step, steps)


class WaitingRoom:
    """The queue of all visitors' requests for one studio.

    A single thread loads the model and paints, as long as the server lives. With two computing threads OpenMP keeps workers for
    each, and on two cores painting takes twice as long (``benchmarks/serve.py``).

    Args:
        load: returns the studio.
    """

    def __init__(self, load: Callable[[], Studio]):
        self._tickets: list[_Ticket] = []
        self._painter = ThreadPoolExecutor(1, thread_name_prefix="painter")
        self.studio = self._painter.submit(load).result()

    async def paint(self, settings: Settings) -> AsyncIterator[Progress | Result]:
        """Yield progress several times per second, and last the pictures. Closing the iterator stops the painting after a step.

        Raises:
            SingDiffusionError: the request cannot be met, or too many wait already.
        """
        self.studio.check(settings)
        if len(self._tickets) > self.studio.limits.waiting:
            waiting = len(self._tickets) - 1
            raise SingDiffusionError(f"busy: a picture is being painted and {waiting} more wait; try again in a while")
        ticket = _Ticket()
        self._tickets.append(ticket)
        work = asyncio.get_running_loop().run_in_executor(
            self._painter, self.studio.paint, settings, ticket.on_step, ticket.cancelled
        )
        work.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # read it, or asyncio warns when the visitor is gone
        try:
            while not work.done():
                yield ticket.progress if ticket.progress.part else Progress(ahead=self._tickets.index(ticket))
                await asyncio.wait([work], timeout=EVERY)
            yield work.result()
        finally:
            ticket.cancelled.set()
            self._tickets.remove(ticket)

    def close(self) -> None:
        """Stop after the current step."""
        for ticket in self._tickets:
            ticket.cancelled.set()
        self._painter.shutdown(wait=True, cancel_futures=True)
