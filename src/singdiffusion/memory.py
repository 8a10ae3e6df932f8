"""What memory this process may still take, and a check before something large is allocated."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

from .errors import SingDiffusionError

GIB = 2**30
# Limit and use of the control group in which containers run: of its version 2, and of version 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory() -> int:
    """Return the bytes that this process may still take: of what the machine, its container and ``ulimit -v`` leave, the least."""
    leaves = [psutil.virtual_memory().available]
    for limit, used in _GROUPS:
        with suppress(OSError, ValueError):  # "max": without a limit
            leaves.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    with suppress(ImportError, OSError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            leaves.append(most - psutil.Process(os.getpid()).memory_info().vms)
    return max(0, min(leaves))


def require_memory(needed: float, what: str, setting: str | None = None, free: float | None = None) -> None:
    """Check that the memory suffices, before it is taken.

    Args:
        needed: bytes.
        what: what needs them, such as "a picture of 16384 x 16384 pixels".
        setting: name of the option to change, as for ``SingDiffusionError``.
        free: bytes that are free where it is needed, such as on a GPU; None: what this process may take.

    Raises:
        SingDiffusionError: it does not suffice.
    """
    free = free_memory() if free is None else free
    if needed > free:
        raise SingDiffusionError(
            f"{what} needs about {needed / GIB:.3g} GiB of memory, and {free / GIB:.2g} GiB are free", setting
        )
