"""Serving the page: where it listens, and what it lets in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import SingDiffusionError
from . import page
from .studio import Studio
from .waiting import WaitingRoom

LARGEST = 256 * 1024  # bytes of a request; the page's own have a few thousand
STATE_SESSIONS = 64

# What the page and Gradio's client ask for. Gradio serves more, files and uploads among it; here there are none.
_EXACT = {
    "/",
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
    "/gradio_api/info",
    "/gradio_api/openapi.json",
}
_UNDER = ("/assets/", "/static/", "/svelte/", "/gradio_api/")
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

Scope = dict[str, Any]
Asgi = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Guard:
    """ASGI middleware: 404 for what the page does not need, 413 for requests too large, and a policy that keeps the browser here."""

    POLICY = (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'"
    )

    def __init__(self, app: Asgi):
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if not allowed(scope["path"]):
            await _answer(send, 404, b"there is no such page here")
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > LARGEST:
            await _answer(send, 413, b"the request is too large")
            return
        taken = 0

        async def bounded() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST:  # sent in chunks, without a length
                return {"type": "http.disconnect"}
            return message

        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(b"content-security-policy", self.POLICY.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message["headers"], *more, (b"referrer-policy", b"no-referrer")]}
            await send(message)

        await self.app(scope, bounded, headed)


def allowed(path: str) -> bool:
    """Whether a path is one that the page or a client asks for."""
    if path in _EXACT:
        return True
    if ".." in path or not path.startswith(_UNDER):
        return False
    return not path.startswith("/gradio_api/") or path.removeprefix("/gradio_api/").startswith(_API)


async def _answer(send: Any, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def free_port(host: str, port: int) -> int:
    """``port``, or for 0 one that is free.

    Raises:
        SingDiffusionError: it is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise SingDiffusionError(
                f"cannot listen on {host}, port {port}: {said}; choose another --port or --host"
            ) from error
        return probe.getsockname()[1]


class Server:
    """A page that is being served.

    Args:
        studio: paints.
        host: address to listen on; 127.0.0.1 is reached from this machine alone.
        port: 0 for a free one.
    """

    def __init__(self, studio: Studio, host: str = "127.0.0.1", port: int = 7860):
        from starlette.middleware import Middleware

        port = free_port(host, port)
        self.room = WaitingRoom(studio)
        self.page = page.build(studio, self.room)
        self.page.queue(default_concurrency_limit=None, max_size=1000)
        _, self.url, _ = self.page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inbrowser=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=["api"],
            max_file_size=0,
            state_session_capacity=STATE_SESSIONS,
            app_kwargs={"middleware": [Middleware(Guard)], "docs_url": None, "redoc_url": None},
            theme=page.theme(),
            css=page.asset("style.css"),
        )

    def wait(self) -> None:
        """Serve until Ctrl-C."""
        threading.Event().wait()

    def close(self) -> None:
        """Stop painting and listening."""
        self.room.close()
        self.page.close(verbose=False)
