"""Try inputs of all targets in turn, for a time."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

from singdiffusion.cli.common import hush

from .targets import targets
from .trial import Counts, explore

AT_ONCE = 50  # inputs of a target before the next one's turn


def search(minutes: float, first: int) -> tuple[dict[str, Counts], float]:
    """Try inputs of all targets in turn; return what came of them, and the most memory in GiB."""
    hush()
    until, found = time.monotonic() + 60 * minutes, {}
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "good").mkdir()
        everything = targets(Path(home) / "good")
        while time.monotonic() < until:
            for target in everything:
                with tempfile.TemporaryDirectory(dir=home) as folder:
                    counts = found.setdefault(target.name, Counts())
                    explore(target, Path(folder), AT_ONCE, first, counts, until)
            first += 2
    return found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
