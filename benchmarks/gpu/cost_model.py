"""What this benchmark shares with the cost model (``benchmarks.scale``), and the FLOPs of the work that it measures."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.scale import (
    ASSUMED,
    GRIDS,
    H100,
    SD15,
    SDXL,
    count,
    counted,
    number,
    processor,
    rate,
    table,
    works,
    wrapped,
)
from singdiffusion.modules import MeanDecoder
from singdiffusion.train.losses import Objective

__all__ = ["ASSUMED", "GRIDS", "H100", "SD15", "SDXL", "computed_rates", "count_flops", "number", "processor", "table", "wrapped"]  # fmt: skip

TOKENS = 77  # per caption and tokenizer


def count_flops() -> dict[str, Any]:
    """Return the cost model's counts for one picture, and those of a decoder's step with the covariance; takes ten seconds.

    Returns:
        ``counted``, as ``benchmarks.scale`` counts it, and ``moments``: base -> grid -> FLOPs of a step.
    """
    moments = {size.name: {str(grid): _moments_step(size, grid) for grid in GRIDS} for size in (SD15, SDXL)}
    return {"counted": counted(), "moments": moments}


def _moments_step(size: Any, grid: int) -> int:
    with torch.device("meta"):
        preset = {"SD-1.5": "sd15", "SDXL": "sdxl"}[size.name]
        objective = Objective(MeanDecoder.preset(preset, grid=grid, covariance_grid=4), "moments", 0.0)
        y, text = torch.empty(1, 4, grid, grid), torch.empty(1, TOKENS, size.text_width)
    return count(lambda: objective(y, None, text, (size.side, size.side)).backward())  # type: ignore[union-attr]


def computed_rates(flops: dict[str, Any]) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the pictures per second that the cost model computes for an H100: (base, work) -> low, middle, high."""
    low, middle, high = range(3)
    return {
        key: (rate(parts, H100, low), rate(parts, H100, middle), rate(parts, H100, high))
        for key, parts in works(flops["counted"]).items()
    }
