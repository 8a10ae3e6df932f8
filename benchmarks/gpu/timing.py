"""Times and peaks of memory, between synchronisations."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Row = dict[str, Any]
"""What was measured of one thing, as it stands in the JSON file."""


def sync() -> None:
    """Wait until the GPU has done all work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clear() -> None:
    """Free the memory of objects that nothing refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def seconds(work: Callable[[], Any]) -> float:
    """Return how long some work takes, its work on the GPU included."""
    sync()
    started = time.perf_counter()
    work()
    sync()
    return time.perf_counter() - started


def in_turn(
    work: dict[str, Callable[[], Any]], budget: float, least: int = 5, most: int = 60, warm_up: int = 3
) -> dict[str, list[float]]:
    """Return the seconds of each, in rounds in which everything runs once.

    Args:
        budget: seconds; no round starts later, except for the first ``least``.
        most: number of rounds after which it stops.
        warm_up: rounds before that are not timed.
    """
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(warm_up):
        for do in work.values():
            seconds(do)
    started = time.monotonic()
    for index in range(most):
        for name, do in work.items():
            found[name].append(seconds(do))
        if index + 1 >= least and time.monotonic() - started > budget:
            break
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the quartiles and the count."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": float(middle), "low": float(low), "high": float(high), "count": len(values)}


def milliseconds(values: list[float]) -> dict[str, float]:
    """Return the spread of seconds, in milliseconds."""
    return spread([1e3 * value for value in values])


def rates(batch: int, took: list[float]) -> dict[str, float]:
    """Return the spread of items per second, from the seconds that ``batch`` items took."""
    return spread([batch / each for each in took])


def ratios(over: list[float], under: list[float]) -> dict[str, float]:
    """Return the spread of ratios, taken round by round."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def allocated() -> float:
    """Return the MiB of tensors on the GPU; 0 without one."""
    return torch.cuda.memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0


def peak_of(work: Callable[[], Any]) -> float:
    """Return the highest MiB of tensors on the GPU while some work runs, those from before included; 0 without a GPU."""
    if not torch.cuda.is_available():
        work()
        return 0.0
    sync()
    torch.cuda.reset_peak_memory_stats()
    work()
    sync()
    return torch.cuda.max_memory_allocated() / 2**20


def fitting(choices: list[int], measure: Callable[[int], Row]) -> Row:
    """Return the row of the first choice that fits into the GPU's memory; ``too_large`` names those that do not."""
    too_large: list[int] = []
    for choice in choices:
        try:
            return measure(choice) | ({"too_large": too_large} if too_large else {})
        except Exception as error:  # the training loop wraps it into an error of its own
            if not isinstance(error.__cause__ or error, torch.OutOfMemoryError):
                raise
            too_large.append(choice)
        clear()  # only now: the exception referred to what filled the memory
    return {"error": "out of memory", "too_large": too_large}
