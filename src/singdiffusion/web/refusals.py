"""Refused requests: a status of HTTP and one line."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import visible, visible_line

Send = Callable[[Any], Awaitable[None]]
LINES_A_MINUTE = 60


class Refused(Exception):
    """A refused request.

    Args:
        status: of HTTP.
        line: the reason.
    """

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status = status


class Reply:
    """The answer to one request, as the application sends it, with headers of our own.

    Args:
        send: of ASGI.
        headers: to add.
    """

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]):
        self._send, self._headers = send, headers
        self._begun = self._ended = False

    async def send(self, message: Any) -> None:
        """Pass a message of the application on."""
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": [*message["headers"], *self._headers]}
        self._ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Answer with the reason, or, where an answer has begun, end it."""
        text = b"" if self._begun else json.dumps({"detail": str(refused)}).encode()
        if not self._begun:
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
            await self.send({"type": "http.response.start", "status": refused.status, "headers": headers})
        if not self._ended:
            await self.send({"type": "http.response.body", "body": text})


class Log:
    """Lines of the server's log about requests, at most 60 per minute, so that nobody fills the disk with them."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(__name__)
        self._minute, self._lines, self._left_out = 0.0, 0, 0

    def line(self, text: str) -> None:
        """Write one line."""
        now = time.monotonic()
        if now - self._minute >= 60:
            if self._left_out:
                self._logger.error("%d more requests failed or were refused", self._left_out)
            self._minute, self._lines, self._left_out = now, 0, 0
        if self._lines < LINES_A_MINUTE:
            self._lines += 1
            self._logger.error("%s", visible_line(text))
        else:
            self._left_out += 1


class Escaped(logging.Formatter):
    """Lines of a log in which text from outside is shown and not obeyed by a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text."""
        return visible(super().format(record))
