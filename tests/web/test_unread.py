"""What nobody fetches is dropped after a while, or when it is much."""

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")

from singdiffusion.web import unread
from singdiffusion.web.unread import keep_little


class Queue:
    """What ``keep_little`` uses of Gradio's queue."""

    def __init__(self):
        self.pending_messages_per_session = {}
        self.pending_event_ids_session = {}
        self.stopped = []
        keep_little(self)

    async def clean_events(self, session_hash):
        self.stopped.append(session_hash)

    def put(self, session, size):
        boxes = self.pending_messages_per_session
        if session not in boxes:
            boxes[session] = asyncio.Queue()
        self.pending_event_ids_session.setdefault(session, set()).add("event")
        boxes[session].put_nowait(SimpleNamespace(output={"data": [{"png": "x" * size}]}))


def test_what_is_read_is_whole_and_counts_no_more():
    async def main():
        queue = Queue()
        boxes = queue.pending_messages_per_session
        for size in (10, 20):
            queue.put("a", size)
        assert boxes.size == 30
        found = [await boxes["a"].get() for _ in range(2)]
        assert [len(each.output["data"][0]["png"]) for each in found] == [10, 20]
        assert boxes.size == 0
        assert "a" in boxes

    asyncio.run(main())


def test_what_nobody_reads_is_dropped_after_a_while_and_its_painting_stops(monkeypatch):
    monkeypatch.setattr(unread, "KEPT_SECONDS", 0.1)

    async def main():
        queue = Queue()
        queue.put("unread", 50)
        queue.put("read", 50)
        await queue.pending_messages_per_session["read"].get()
        await asyncio.sleep(0.2)
        boxes = queue.pending_messages_per_session
        assert list(boxes) == list(queue.pending_event_ids_session) == ["read"]
        assert (queue.stopped, boxes.size) == (["unread"], 0)
        boxes["unread"].put_nowait(SimpleNamespace(output="late"))  # of the step that was painted meanwhile
        del boxes["unread"]
        assert boxes.size == 0

    asyncio.run(main())


def test_300_unread_results_need_no_more_memory_than_is_meant_for_them(monkeypatch):
    monkeypatch.setattr(unread, "KEPT_BYTES", 1000)

    async def main():
        queue = Queue()
        for i in range(300):
            queue.put(f"session {i}", 100)
            await asyncio.sleep(0)
        boxes = queue.pending_messages_per_session
        assert list(boxes) == list(queue.pending_event_ids_session) == [f"session {i}" for i in range(290, 300)]
        assert boxes.size == 1000
        assert len(queue.stopped) == 290
        queue.put("session 299", 5000)  # one alone may be larger
        assert list(boxes) == ["session 299"]

    asyncio.run(main())


def test_sessions_are_limited(monkeypatch):
    monkeypatch.setattr(unread, "SESSIONS", 5)

    async def main():
        queue = Queue()
        for i in range(20):
            queue.put(str(i), 1)
        assert list(queue.pending_messages_per_session) == [str(i) for i in range(15, 20)]
        assert len(queue.pending_event_ids_session) == 5

    asyncio.run(main())
