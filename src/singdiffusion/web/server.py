"""Serve the page."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from ..errors import SingDiffusionError
from .guard import Guard
from .page import build
from .studio import Studio
from .theme import asset, theme
from .waiting import WaitingRoom

STATE_SESSIONS = 64


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
            reason = getattr(error, "strerror", None) or str(error)
            raise SingDiffusionError(
                f"cannot listen on {host}, port {port}: {reason}; choose another port or host", setting="port"
            ) from error
        return probe.getsockname()[1]


class Server:
    """A page that is being served.

    Args:
        load: returns the studio that paints; called once the address is known to be free.
        host: address to listen on; only this machine reaches 127.0.0.1.
        port: 0 for a free one.

    Raises:
        SingDiffusionError: the address cannot be listened on, or ``load`` raises.
    """

    def __init__(self, load: Callable[[], Studio], host: str = "127.0.0.1", port: int = 7860):
        from starlette.middleware import Middleware

        port = free_port(host, port)
        self.room = WaitingRoom(load)
        self.page = build(self.room)
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
            app_kwargs={"middleware": [Middleware(Guard, page=self.page)], "docs_url": None, "redoc_url": None},
            theme=theme(),
            css=asset("style.css"),
        )

    def wait(self) -> None:
        """Serve until Ctrl-C."""
        threading.Event().wait()

    def close(self) -> None:
        """Stop painting and listening."""
        self.room.close()
        self.page.close(verbose=False)
