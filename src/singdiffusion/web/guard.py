"""Let in only the paths that the page and Gradio's client need, small requests, and plain values.

Gradio also serves files and uploads, and looks for files in every value that it receives. This page needs neither: pictures travel
inside the answers. A refused request gets a status of the 400s and one line, and so does one at which Gradio fails.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from ..errors import SingDiffusionError, one_line
from ..reading import parse_json
from .connections import BODY_SECONDS
from .hosts import FORM, Names
from .refusals import Log, Refused, Reply, Send
from .settings import FirstStep

LARGEST = 64 * 1024  # bytes of a request; four texts of 1,000 letters, each written as two \\u, have 48,000
LONGEST_PATH = 300  # letters; of more, the name of a file can be too long for the disk
LONGEST = 100  # letters of a session's or an event's name; Gradio's have up to 32
PLAIN = "must be a text, a number, true, false or null"

_EXACT = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"}
_UNDER = ("/assets/", "/static/", "/svelte/")
_API = (
    "queue/",
    "call/",
    "heartbeat/",
    "cancel",
    "reset",
    "startup-events",
    "info",
    "openapi.json",
    "theme.css",
    "app_id",
)
_PREFIX = "/gradio_api/"

# Everything from this server. Gradio's own scripts are inline and make functions of templates.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; frame-ancestors 'self'"
)
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]

# Which the page does not need: parts of its files, and another address to find them at.
_UNUSED = (b"range", b"if-range", b"x-gradio-server")


class Guard:
    """ASGI application in front of Gradio's.

    Args:
        app: Gradio's application.
        page: the ``gr.Blocks`` whose functions may be called.
        names: the names under which the server may be asked.
        root: path under which a reverse proxy shows the page; some proxies remove it from a request, others do not.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], page: Any, names: Names, root: str = ""):
        self.app = app
        self.page = page
        self.names = names
        self.root = root
        self.log = Log()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, Reply(send, _HEADERS))
        else:
            await send({"type": "websocket.close"})  # the page has none

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        request = f"{scope['method']} {quote(scope['path'])[:200]}"
        try:
            scope, receive = await self._admitted(scope, receive)
            await self.app(scope, receive, reply.send)
        except Refused as refused:
            self.log.line(f"{request} was refused: {refused}")
            await reply.refuse(refused)
        except Exception as error:  # of Gradio, at a request that its own page would not send
            self.log.line(f"{request} failed: {type(error).__name__}: {one_line(error)}")
            await reply.refuse(Refused(500, "the request failed; the cause is in the server's log"))

    async def _admitted(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """Return a request as Gradio may see it.

        Raises:
            Refused: it may not.
        """
        headers = dict(scope["headers"])
        self.names.check(scope["method"], headers)
        path = scope["path"]
        if not allowed(path) and self.root and f"{path}/".startswith(self.root + "/"):
            path = path.removeprefix(self.root) or "/"
        if not allowed(path):
            raise Refused(404, "there is no such page on this server")
        kept = [(name, value) for name, value in scope["headers"] if _is_used(name, value)]
        scope = {**scope, "path": path, "raw_path": quote(path).encode(), "headers": kept}
        if scope["method"] == "POST":
            return scope, _again(self._checked(scope, await _body(headers, receive)), receive)
        if path.startswith(_PREFIX + "call/"):
            self._check_awaited(path.rstrip("/").rpartition("/")[2])
        return scope, receive

    def _check_awaited(self, event: str) -> None:
        """Check that something is or will be there to read, because Gradio waits for it without end.

        Raises:
            Refused: it was read, or dropped, or nothing was asked.
        """
        if not any(event in events for events in self.page._queue.pending_event_ids_session.values()):
            raise Refused(404, "there is no such request; its result was read already, or was not read for too long")

    def _checked(self, scope: Scope, body: bytes) -> bytes:
        """Return the body of a call.

        Raises:
            Refused: no function of the page can take it.
        """
        path, request = scope["path"].rstrip("/"), _object(body)
        if path.startswith(_PREFIX + "call/v2/"):
            self._check_names(request, self._by_name(path.removeprefix(_PREFIX + "call/v2/")))
            return body
        _check_answerable({name: value for name, value in request.items() if name != "data"})
        if path == _PREFIX + "queue/join":
            self._check_values(request, self._by_index(request.get("fn_index")))
        elif path.startswith(_PREFIX + "call/"):
            self._check_values(request, self._by_name(path.removeprefix(_PREFIX + "call/")))
        return body

    def _by_name(self, name: str) -> Any:
        found = {fn.api_name: fn for fn in self.page.fns.values() if fn.api_visibility == "public"}
        if name not in found:
            raise Refused(404, f"there is no function {name[:40]!r}; there are {', '.join(map(str, found))}")
        return found[name]

    def _by_index(self, index: Any) -> Any:
        if type(index) is not int or index not in self.page.fns or self.page.fns[index].fn is None:
            raise Refused(422, "fn_index names no function of this page; reload it")
        return self.page.fns[index]

    def _check_values(self, request: dict[str, Any], fn: Any) -> None:
        values = request.get("data")
        if not isinstance(values, list):
            raise Refused(422, "data must be a list of the function's values")
        if len(values) != len(fn.inputs):
            name = fn.api_name or "this function"
            raise Refused(422, f"data must have {len(fn.inputs)} values for {name}, not {len(values)}")
        if not all(map(_is_harmless, values)):
            raise Refused(422, f"every value in data {PLAIN}")

    def _check_names(self, given: dict[str, Any], fn: Any) -> None:
        known = inspect.signature(fn.fn).parameters
        unknown = [name for name in given if name not in known]
        if unknown:
            raise Refused(422, f"{unknown[0][:40]} is not a setting of {fn.api_name}; it has {', '.join(known)}")
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in given:
                raise Refused(422, f"{name} is missing")
        if not all(map(_is_harmless, given.values())):
            raise Refused(422, f"every value {PLAIN}")


def _check_answerable(fields: dict[str, Any]) -> None:
    """Check the fields that Gradio keeps, or that FastAPI repeats in its answer when they are wrong.

    Raises:
        Refused: one is a long text, infinite, or has half a surrogate pair.
    """
    if any(isinstance(value, str) and len(value) > LONGEST for value in fields.values()):
        raise Refused(422, f"only data may have texts of more than {LONGEST} letters")
    try:
        json.dumps(fields, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise Refused(422, "the request has an infinite number or text that is not Unicode") from error


def _is_harmless(value: Any) -> bool:
    """Whether Gradio finds no file in a value: a plain one, or an object with nothing but options of the first step."""
    if isinstance(value, dict):
        return value.keys() <= FirstStep.model_fields.keys() and not any(
            isinstance(each, list | dict) for each in value.values()
        )
    return not isinstance(value, list)


def allowed(path: str) -> bool:
    """Whether the page or a client needs a path."""
    if path in _EXACT:
        return True
    if ".." in path or len(path) > LONGEST_PATH:
        return False
    return path.startswith(_UNDER) or path.startswith(tuple(_PREFIX + each for each in _API))


def _is_used(name: bytes, value: bytes) -> bool:
    """Whether Gradio may see a header."""
    if name == b"x-forwarded-host":
        return all(FORM.fullmatch(each.strip()) for each in value.decode("latin-1").lower().split(","))
    return name not in _UNUSED


def _object(body: bytes) -> dict[str, Any]:
    try:
        return parse_json(body, "the request")
    except SingDiffusionError as error:
        raise Refused(422, str(error)) from error


async def _body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """Return the whole body.

    Raises:
        Refused: its length, as announced or as received, is over the limit, or it does not come to an end.
    """
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > LARGEST:
        raise Refused(413, f"the request is too large; at most {LARGEST} bytes are taken")
    try:
        return await asyncio.wait_for(_received(receive), BODY_SECONDS)
    except asyncio.TimeoutError as error:
        raise Refused(408, f"the request was not complete after {BODY_SECONDS:.0f} seconds") from error


async def _received(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request was not complete when its connection ended")
        body += message.get("body", b"")
        if len(body) > LARGEST:
            raise Refused(413, f"the request is too large; at most {LARGEST} bytes are taken")
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` for the application that gives the body that was read, and then what follows."""
    first = True

    async def replay() -> Any:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
