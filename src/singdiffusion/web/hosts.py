"""Answer only under the server's own names, so that a page of another site cannot use a visitor's browser to reach the server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..errors import visible
from .refusals import Refused

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FORM = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?")


class Names:
    """The names under which a server may be asked.

    On loopback these are this machine's and that of ``root``: a name that its owner points to 127.0.0.1 (DNS rebinding) is refused.
    On another address every name is taken, because visitors may know the machine under any.

    Args:
        host: address that the server listens on.
        root: where a reverse proxy shows the page: ``/path`` or the whole address.
    """

    def __init__(self, host: str, root: str = ""):
        public = urlsplit(root)
        self._public, self._behind = public.netloc.lower(), bool(root)
        self._known = {*LOOPBACK, host.lower(), *filter(None, [public.hostname])} if is_loopback(host) else None

    def check(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Check who is asked, and, of a request that changes something, which site's page asks.

        Raises:
            Refused: it is another server, or the page of another site.
        """
        asked = _text(headers, b"host")
        if not FORM.fullmatch(asked):
            raise Refused(400, "the request names no host")
        if self._known is not None and _without_port(asked) not in self._known:
            raise Refused(
                421,
                f"this server answers to {', '.join(sorted(self._known))}, not to {asked[:80]}; behind a reverse proxy, root_path must "
                "be the public address",
            )
        origin = _text(headers, b"origin")
        if not origin or method in ("GET", "HEAD"):
            return
        forwarded = _text(headers, b"x-forwarded-host").split(",")[0].strip()
        if origin.partition("://")[2] not in {asked, self._public, forwarded if self._behind else asked} - {""}:
            raise Refused(403, f"the page of another site, {visible(origin)[:80]}, may not call this server")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1").lower()


def _without_port(host: str) -> str:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.removesuffix(".")
