"""Check the content of shards against their manifest, and record which ones were found right, so that each is read once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ..errors import SingDiffusionError, reason
from ..files import write_whole
from ..reading import read_json

RECORD = ".checked.json"  # in the folder of the shards, or where that cannot be written, in the user's cache
THREADS = 4
PIECE = 2**20  # bytes read at once
REPORTED = 10**9  # bytes; checking fewer takes a second and needs no message

State = tuple[str, int, int, int]
"""SHA-256 of a file, its bytes, and the times of its last change and of that of its content or name (ns): a copy has another one."""


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, read piece by piece."""
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def require_right(
    folder: Path, shards: Sequence[Any], report: Callable[[str], None] | None = None, rank: int = 0, world: int = 1
) -> None:
    """Check that shards hold what their manifest states: this process's share of those that were not found right before.

    Args:
        folder: of the shards.
        shards: their entries in the manifest.
        report: takes a line for the user when much must be read.
        rank, world: the number of this process, and how many there are; process i mod world checks shard i.

    Raises:
        SingDiffusionError: a shard holds something else, or cannot be read.
    """
    known = _recorded(folder)
    states = {shard["file"]: _state(folder / shard["file"], shard["sha256"]) for shard in shards[rank::world]}
    open_ = {name: state for name, state in states.items() if known.get(name) != state}
    size = sum(state[1] for state in open_.values())
    if report is not None and size >= REPORTED:
        report(f"checking {len(open_)} shards against their manifest: {size / 1e9:.3g} GB to read, once")
    right: dict[str, State] = {}
    try:
        _check(folder, open_, right)
    finally:
        if right:
            _record(folder, right)


def _check(folder: Path, states: dict[str, State], right: dict[str, State]) -> None:
    """Check shards in threads, and add those that are right to ``right``.

    Raises:
        SingDiffusionError: one is not.
    """

    def check(name: str) -> None:
        file = folder / name
        try:
            found = sha256_of(file)
        except OSError as error:
            raise SingDiffusionError(f"{file} cannot be read: {reason(error)}") from error
        if found != states[name][0]:
            raise SingDiffusionError(
                f"{file} cannot be used: its SHA-256 is not that of its manifest; delete it and encode again"
            )
        right[name] = states[name]

    pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
    try:
        for _ in pool.map(check, states):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _state(file: Path, sha256: str) -> State:
    stat = file.stat()
    return sha256, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _recorded(folder: Path) -> dict[str, State]:
    """Return what earlier checks found right. A record that cannot be read counts as none."""
    found: dict[str, State] = {}
    for file in _records(folder):
        with suppress(SingDiffusionError):
            found |= read_json(file, dict[Any, State])
    return found


def _record(folder: Path, right: dict[str, State]) -> None:
    """Add shards that were found right to the record. Of two processes that do so at once the last one's stay; the rest is read again."""
    content = json.dumps(_recorded(folder) | right) + "\n"
    for file in _records(folder):
        with suppress(SingDiffusionError, OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, content)
            return


def _records(folder: Path) -> tuple[Path, Path]:
    """Return the files in which shards that are right may be recorded."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    return folder / RECORD, user_cache_path("singdiffusion", False) / f"checked-{name}.json"
