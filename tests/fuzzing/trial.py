"""Try one input: it is taken or refused in one line, in time, within the memory, with nothing half-written."""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from singdiffusion import SingDiffusionError
from singdiffusion.staging import PREFIX

LONGEST = 60  # seconds
MOST_MEMORY = 4 * 2**30  # bytes


class Hangs(BaseException):
    """An input takes longer than ``LONGEST``."""


@dataclass(frozen=True)
class Target:
    """Something that takes input from outside.

    Attributes:
        name: what it is.
        cases: wrong and right inputs.
        run: takes a case and an empty folder; raises SingDiffusionError for a wrong one.
    """

    name: str
    cases: SearchStrategy
    run: Callable[[Any, Path], object]


@dataclass
class Counts:
    """What came of a target's inputs.

    Attributes:
        outcomes: "taken", "refused", or the kind of a fault -> number of inputs.
        faults: a report of each fault: the input and its traceback.
        slowest: seconds.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0


def attempt(target: Target, case: Any, folder: Path, counts: Counts) -> None:
    """Run one input of a target in an empty folder, and count what came of it."""
    begun, fault = time.monotonic(), ""
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(LONGEST)
    try:
        target.run(case, folder)
        outcome = "taken"
    except SingDiffusionError as error:
        outcome = "refused"
        if "\n" in str(error):
            outcome, fault = "several lines", str(error)
    except Hangs:
        outcome, fault = "hang", traceback.format_exc()
    except BaseException as error:
        outcome, fault = type(error).__name__, traceback.format_exc()
    finally:
        signal.alarm(0)
    left = [str(path) for path in folder.rglob(f"{PREFIX}*")] if folder.exists() else []
    if left:
        outcome, fault = "half-written", f"{left} after {outcome}\n{fault}"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MOST_MEMORY:
        outcome, fault = "memory", "more than 4 GiB"
    counts.outcomes[outcome] += 1
    counts.slowest = max(counts.slowest, time.monotonic() - begun)
    if fault:
        counts.faults.append(f"{target.name}: {outcome}\n{case!r:.3000}\n{fault}")


def _hangs(*_: Any) -> None:
    raise Hangs


def explore(target: Target, folder: Path, number: int, first: int, counts: Counts, until: float = float("inf")) -> None:
    """Try a number of inputs of a target.

    Args:
        folder: each input gets an empty folder in it.
        number: of inputs.
        first: seed of the inputs.
        until: ``time.monotonic()`` at which to stop.
    """

    @seed(first)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.cases)
    def trial(case: Any) -> None:
        if time.monotonic() < until:
            place = folder / f"{target.name}-{first}-{sum(counts.outcomes.values())}"
            place.mkdir()
            before = Path.cwd()
            os.chdir(place)
            try:
                attempt(target, case, place, counts)
            finally:
                os.chdir(before)

    trial()
