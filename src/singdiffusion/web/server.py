"""Serve the page."""

from __future__ import annotations

import functools
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from ..errors import SingDiffusionError, reason
from .connections import Connection
from .direct import without_proxies
from .guard import Guard
from .hosts import Names
from .page import build
from .studio import Studio
from .theme import asset, theme
from .unread import keep_little
from .waiting import WaitingRoom

STATE_SESSIONS = 64
CONNECTIONS = 128  # and two for each request that may wait


def free_port(host: str, port: int) -> int:
    """Return ``port``, or for 0 one that is free.

    Raises:
        SingDiffusionError: the port is taken, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise SingDiffusionError(
                f"cannot listen on {host}, port {port}: {reason(error)}; choose another port or host", setting="port"
            ) from error
        return probe.getsockname()[1]


def public_root(root_path: str) -> str:
    """Return where visitors find the page, without a slash at its end: "/path", or the whole address.

    Args:
        root_path: ``/path`` or ``https://host/path``, as a reverse proxy has it; empty without one.

    Raises:
        SingDiffusionError: it is neither.
    """
    root = root_path.rstrip("/")
    if root_path and not re.fullmatch(r"(https?://[^/\s?#]+)?(/(?!\.)[A-Za-z0-9._~-]+)*", root):
        raise SingDiffusionError(
            f"root_path must be a path such as /painting or a whole address such as https://example.com/painting, not {root_path!r}",
            setting="root_path",
        )
    return root


class Server:
    """A page that is being served.

    Args:
        load: returns the studio that paints; called once the address is known to be free.
        host: address to listen on; only this machine reaches 127.0.0.1.
        port: 0 for a free one.
        root_path: where a reverse proxy shows the page: ``/path`` or ``https://host/path``.

    Raises:
        SingDiffusionError: ``root_path`` is no path, the address cannot be listened on, or ``load`` raises.
    """

    def __init__(self, load: Callable[[], Studio], host: str = "127.0.0.1", port: int = 7860, root_path: str = ""):
        root, port = public_root(root_path), free_port(host, port)
        self.room = WaitingRoom(load)
        self.page = build(self.room)
        self.page.queue(default_concurrency_limit=None, max_size=1000)
        keep_little(self.page._queue)
        with without_proxies():
            self.url = self._launch(host, port, root)

    def _launch(self, host: str, port: int, root: str) -> str:
        """Start listening, and return the page's address on this machine."""

        @asynccontextmanager
        async def guarded(app: Any) -> AsyncIterator[None]:
            # before the first request, and in front of Gradio's own middleware, which also fails at some
            app.middleware_stack = Guard(app.middleware_stack, self.page, Names(host, root), urlsplit(root).path)
            yield

        _, url, _ = self.page.launch(
            server_name=host,
            server_port=port,
            root_path=root or None,
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
            app_kwargs={"lifespan": guarded, "docs_url": None, "redoc_url": None},
            theme=theme(),
            css=asset("style.css"),
        )
        most = CONNECTIONS + 2 * self.room.studio.limits.waiting
        self.page.server.config.http_protocol_class = functools.partial(
            Connection, most=most
        )  # of the next connections
        return url

    def wait(self) -> None:
        """Serve until an exception, such as Ctrl-C's."""
        threading.Event().wait()

    def close(self) -> None:
        """Stop painting and listening."""
        self.room.close()
        self.page.close(verbose=False)
