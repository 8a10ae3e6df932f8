"""What a remedy costs: seconds per picture, measured against the pipeline without it in one run, and memory."""

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
    """Cost of one remedy on one pipeline.

    Attributes:
        seconds_off, seconds: per picture without and with it, medians.
        extra: additional seconds per picture, the median over pairs.
        interval: 95 % interval of that median, from the order of the differences alone; None for fewer than 6 pairs. If it contains 0,
            no cost was found.
        ratio: time with it divided by time without, the median over pairs.
        pairs: pairs of a picture without and a picture with it; which comes first alternates.
        mib: MiB of memory for its networks, in addition to the pipeline's.
    """

    seconds_off: float
    seconds: float
    extra: float
    interval: tuple[float, float] | None
    ratio: float
    pairs: int
    mib: float

    def as_json(self) -> dict[str, Any]:
        """Return every figure; the keys are documented in docs/evaluate.md."""
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
    """Paint pairs of a picture without and a picture with a remedy, after one pair to warm up, and return the cost.

    Enabling the remedy is not timed, because it happens once for many pictures.

    Args:
        seed: of the first pair; the following pairs count it up.
        advance: called with the number of pictures that are done.
        options: as for ``painting.paint``.
    """
    taken: list[tuple[float, float]] = []
    for i in range(pairs + 1):
        order = (
            (Off(), remedy) if i % 2 else (remedy, Off())
        )  # if the first of a pair takes longer, that affects both alike
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
        mib=extra_memory(pipe, remedy),
    )


def _interval(values: list[float]) -> tuple[float, float] | None:
    """95 % interval of the median for any distribution, from the binomial distribution of how many values lie below it."""
    from scipy.stats import quantile_test

    found = quantile_test(values, p=0.5).confidence_interval(0.95)
    return (float(found.low), float(found.high)) if math.isfinite(found.low) and math.isfinite(found.high) else None


def _seconds(pipe: Any, remedy: Remedy, prompt: str, seed: int, options: dict[str, Any]) -> float:
    with remedy.applied(pipe) as more:
        started = time.perf_counter()
        paint(pipe, [prompt], [seed], **(options | more))
        return time.perf_counter() - started


def extra_memory(pipe: Any, remedy: Remedy) -> float:
    """Return the MiB of a remedy's parameters and buffers that are not the pipeline's own."""
    parts = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    theirs = {place for part in parts for place, _ in _tensors(part)}
    ours = dict(pair for network in remedy.networks() for pair in _tensors(network))
    return sum(size for place, size in ours.items() if place not in theirs) / 2**20


def _tensors(network: nn.Module) -> list[tuple[int, int]]:
    """(address, bytes) of every parameter and buffer that is in memory."""
    tensors = [*network.parameters(), *network.buffers()]
    return [(tensor.data_ptr(), tensor.numel() * tensor.element_size()) for tensor in tensors if not tensor.is_meta]
