"""Connections that do not wait for ever: a request that is sent half, and an answer that is not read, end the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # from the first byte of a request, or from connecting, to the end of its headers
BODY_SECONDS = 10.0  # from there to the end of its body
REFUSED_SECONDS = 2.0  # in which a refused visitor may read the reason
READ_SECONDS = 60.0  # in which a visitor must read some of an answer
_BUSY = b"too many connections; try again in a while\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_BUSY), _BUSY)


class Connection(H11Protocol):
    """uvicorn's connection, which has no limits of its own for these.

    Args:
        most: connections at once; further ones are answered with status 503.
        given: for uvicorn.
    """

    def __init__(self, *given: Any, most: int, **named: Any):
        super().__init__(*given, **named)
        self._most, self._refused = most, False
        self._timers: dict[Callable[[], bool], asyncio.TimerHandle] = {}

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._refused = len(self.connections) > self._most
        if self._refused:
            # to close at once, with the request unread, would reset the connection, and the answer would be lost
            transport.write(BUSY)
            transport.write_eof()
            self._limit(self._is_waiting, REFUSED_SECONDS)
        else:
            self._limit(self._is_waiting, HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if not self.transport.is_closing() and not self._refused:
            super().data_received(data)
            self._limit(self._is_waiting, HEAD_SECONDS)

    def pause_writing(self) -> None:
        """Begin to wait for the visitor to read."""
        super().pause_writing()
        self._limit(self._is_unread, READ_SECONDS)

    def resume_writing(self) -> None:
        """The visitor has read."""
        super().resume_writing()
        self._limit(self._is_unread, READ_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        super().connection_lost(exc)

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_unread(self) -> bool:
        return self.flow.write_paused

    def _limit(self, state: Callable[[], bool], seconds: float) -> None:
        """Close the connection if it stays in a state for some seconds."""
        if not state():
            if state in self._timers:
                self._timers.pop(state).cancel()
        elif state not in self._timers:
            self._timers[state] = self.loop.call_later(seconds, self._close, state)

    def _close(self, state: Callable[[], bool]) -> None:
        del self._timers[state]
        if state() and not self.transport.is_closing():
            self.transport.abort()
