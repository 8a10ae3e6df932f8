"""What a remedy costs beside painting as the pipeline does: seconds a picture, measured in turn in one run, and memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from ...painting.paint import paint
from ..remedies import Off, Remedy

PAIRS = 20


@dataclass(frozen=True)
class Cost:
    """Of one remedy on one pipeline.

    Attributes:
        seconds_off, seconds: a picture without and with it, medians.
        extra: seconds more with it, the median over pairs.
        interval: 95 % interval of that median, by the order of the differences alone; None for fewer than 6 pairs. Where it holds 0,
            the cost is not told from nothing.
        ratio: times as long, the median over pairs.
        pairs: pictures without and with it, one after the other, the first in turn.
        mib: of the networks that it holds in memory beside the pipeline's.
    """

    seconds_off: float
    seconds: float
    extra: float
    interval: tuple[float, float] | None
    ratio: float
    pairs: int
    mib: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    pipe: Any,
    remedy: Remedy,
    prompt: str,
    *,
    pairs: int = PAIRS,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
    **options: Any,
) -> Cost:
    """Paint pairs of one picture without and one with a remedy, after one pair that warms up.

    Plugging in is not timed: it is done once for many pictures.

    Args:
        seed: of the first pair; the next take the next.
        advance: told how many pictures are done.
        options: as for ``painting.paint``.
    """
    taken: list[tuple[float, float]] = []
    for i in range(pairs + 1):
        order = (Off(), remedy) if i % 2 else (remedy, Off())  # whatever the first one costs more, both pay
        found = {}
        for each in order:
            found[each is remedy] = _seconds(pipe, each, prompt, seed + i, options)
            advance(1)
        if i:
            taken.append((found[False], found[True]))
    differences = [on - off for off, on in taken]
    return Cost(
        seconds_off=statistics.median(off for off, _ in taken),
        seconds=statistics.median(on for _, on in taken),
        extra=statistics.median(differences),
        interval=_interval(differences),
        ratio=statistics.median(on / off for off, on in taken),
        pairs=pairs,
        mib=held(pipe, remedy),
    )


def _interval(values: list[float]) -> tuple[float, float] | None:
    """95 % interval of the median, whatever the distribution (the binomial's of how many lie below)."""
    from scipy.stats import quantile_test

    found = quantile_test(values, p=0.5).confidence_interval(0.95)
    return (float(found.low), float(found.high)) if math.isfinite(found.low) and math.isfinite(found.high) else None


def _seconds(pipe: Any, remedy: Remedy, prompt: str, seed: int, options: dict[str, Any]) -> float:
    with remedy.applied(pipe) as more:
        started = time.perf_counter()
        paint(pipe, [prompt], [seed], **(options | more))
        return time.perf_counter() - started


def held(pipe: Any, remedy: Remedy) -> float:
    """MiB of the parameters and buffers of a remedy's networks that the pipeline does not hold itself."""
    parts = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    theirs = {place for part in parts for place, _ in _tensors(part)}
    ours = dict(pair for network in remedy.networks() for pair in _tensors(network))
    return sum(size for place, size in ours.items() if place not in theirs) / 2**20


def _tensors(network: nn.Module) -> list[tuple[int, int]]:
    """(where it lies, bytes) of every parameter and buffer that is in memory."""
    tensors = [*network.parameters(), *network.buffers()]
    return [(tensor.data_ptr(), tensor.numel() * tensor.element_size()) for tensor in tensors if not tensor.is_meta]
