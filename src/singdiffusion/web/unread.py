"""What Gradio keeps for visitors until they read it: pictures that nobody fetches are dropped after some minutes, or when they are many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

KEPT_SECONDS = 300.0
KEPT_BYTES = 256 * 2**20
SESSIONS = 2000


class Mailboxes(dict):
    """Session -> what it has not read, in place of Gradio's own, which keeps everything of the last 2,000 sessions.

    Args:
        forget: called with a session whose mailbox was dropped.
    """

    def __init__(self, forget: Callable[[str], None]):
        super().__init__()
        self._forget = forget
        self.size = 0  # bytes of all

    def __setitem__(self, session: str, _: Any) -> None:
        super().__setitem__(session, Mailbox(self, session))
        if len(self) > SESSIONS:
            self.drop(next(iter(self)))

    def __missing__(self, session: str) -> asyncio.Queue:
        return asyncio.Queue()  # of a session that was dropped while it was painted for

    def __delitem__(self, session: str) -> None:
        box = self.pop(session, None)
        if box is not None:
            box.empty_out()

    def drop(self, session: str) -> None:
        """Forget a session."""
        del self[session]
        self._forget(session)

    def trim(self) -> None:
        """Drop the oldest sessions, all but one, while the unread messages are too large."""
        while self.size > KEPT_BYTES:
            oldest, *others = [session for session, box in self.items() if not box.empty()]
            if not others:
                return
            self.drop(oldest)


class Mailbox(asyncio.Queue):
    """Messages to one session. It drops itself when the oldest one was not read for five minutes."""

    def __init__(self, boxes: Mailboxes, session: str):
        super().__init__()
        self._boxes, self._session = boxes, session
        self._timer: asyncio.TimerHandle | None = None

    def _put(self, item: Any) -> None:
        size = _size(getattr(item, "output", None))
        super()._put((time.monotonic(), size, item))  # type: ignore[misc]
        self._boxes.size += size
        if self._timer is None:
            self._wait(KEPT_SECONDS)
        self._boxes.trim()

    def _get(self) -> Any:
        _, size, item = super()._get()  # type: ignore[misc]
        self._boxes.size -= size
        return item

    def empty_out(self) -> None:
        """Take everything out."""
        while not self.empty():
            self.get_nowait()
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.empty():
            return
        age = time.monotonic() - self._queue[0][0]  # type: ignore[attr-defined]
        if age >= KEPT_SECONDS:
            self._boxes.drop(self._session)
        else:
            self._wait(KEPT_SECONDS - age)


def keep_little(queue: Any) -> None:
    """Let Gradio's queue keep unread messages for a while only, and stop painting for those who do not read.

    Args:
        queue: ``Blocks._queue``.
    """
    tasks: set[asyncio.Task] = set()

    def forget(session: str) -> None:
        queue.pending_event_ids_session.pop(session, None)
        task = asyncio.get_running_loop().create_task(queue.clean_events(session_hash=session))
        tasks.add(task)  # the loop itself keeps no reference
        task.add_done_callback(tasks.discard)

    queue.pending_messages_per_session = Mailboxes(forget)


def _size(value: Any) -> int:
    """Return about the bytes of the texts in a value of JSON."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 8
