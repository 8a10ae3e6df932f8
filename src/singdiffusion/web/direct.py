"""Reach this machine directly, whatever proxy the environment names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_proxies() -> Iterator[None]:
    """Let no request of this process go through a proxy inside the block, and restore the environment after it.

    Gradio asks its own server whether it has started, and httpx would send this question to ``http_proxy`` or ``ALL_PROXY``. A SOCKS
    proxy already stops the import of Gradio where the package for it is missing.
    """
    before = os.environ.get("no_proxy")  # in lower case, because it wins over NO_PROXY
    os.environ["no_proxy"] = "*"
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before
