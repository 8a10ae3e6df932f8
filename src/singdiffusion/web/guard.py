"""Let in only the paths that the page and Gradio's client need, small requests, and plain values.

Gradio also serves files and uploads, and looks for files in every value that it receives. This page needs neither: pictures travel
inside the answers. A refused request gets a status of the 400s and one line.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from .settings import FirstStep

LARGEST = 256 * 1024  # bytes of a request; the page's own have a few thousand
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
Send = Callable[[Any], Awaitable[None]]


class Refused(Exception):
    """A refused request.

    Args:
        status: of HTTP.
        line: the reason.
    """

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status = status


class Guard:
    """ASGI middleware in front of Gradio's application.

    Args:
        app: Gradio's application.
        page: the ``gr.Blocks`` whose functions may be called.
        root: path under which a reverse proxy shows the page; some proxies remove it from a request, others do not.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], page: Any, root: str = ""):
        self.app = app
        self.page = page
        self.root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        if not allowed(scope["path"]) and self.root and f"{scope['path']}/".startswith(self.root + "/"):
            path = scope["path"].removeprefix(self.root) or "/"
            scope = {**scope, "path": path, "raw_path": quote(path).encode()}
        try:
            if not allowed(scope["path"]):
                raise Refused(404, "there is no such page on this server")
            if scope["method"] == "POST":
                receive = _again(self._checked(scope, await _body(scope, receive)), receive)
        except Refused as refused:
            await _answer(headed, refused)
            return
        await self.app(scope, receive, headed)

    def _checked(self, scope: Scope, body: bytes) -> bytes:
        """Return the body of a call.

        Raises:
            Refused: no function of the page can take it.
        """
        path, request = scope["path"].rstrip("/"), _object(body)
        if path.startswith(_PREFIX + "call/v2/"):
            self._check_names(request, self._by_name(path.removeprefix(_PREFIX + "call/v2/")))
            return body
        if path == _PREFIX + "queue/join":
            self._check_values(request, self._by_index(request.get("fn_index")))
        elif path.startswith(_PREFIX + "call/"):
            self._check_values(request, self._by_name(path.removeprefix(_PREFIX + "call/")))
        _check_answerable({name: value for name, value in request.items() if name != "data"})
        return body

    def _by_name(self, name: str) -> Any:
        found = {fn.api_name: fn for fn in self.page.fns.values() if fn.api_visibility == "public"}
        if name not in found:
            raise Refused(404, f"there is no function {name[:40]!r}; there are {', '.join(map(str, found))}")
        return found[name]

    def _by_index(self, index: Any) -> Any:
        if not isinstance(index, int) or index not in self.page.fns:
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
    """Check fields that FastAPI repeats in its answer when they are wrong, because it fails with status 500 at these values.

    Raises:
        Refused: one is NaN or infinite, or has half a surrogate pair.
    """
    try:
        json.dumps(fields, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise Refused(422, "the request has NaN, an infinite number or text that is not Unicode") from error


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
    return ".." not in path and (path.startswith(_UNDER) or path.startswith(tuple(_PREFIX + each for each in _API)))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(422, "the request is not JSON") from error
    if not isinstance(found, dict):
        raise Refused(422, "the request must be a JSON object")
    return found


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Return the whole body.

    Raises:
        Refused: its length, as announced or as received, is over the limit.
    """
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > LARGEST:
        raise Refused(413, f"the request is too large; at most {LARGEST} bytes are taken")
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST:
            raise Refused(413, f"the request is too large; at most {LARGEST} bytes are taken")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
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


async def _answer(send: Send, refused: Refused) -> None:
    text = json.dumps({"detail": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
