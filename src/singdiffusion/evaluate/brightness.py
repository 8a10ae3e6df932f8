"""Brightness without and with the first step: the mean grey of pictures, the same seeds off and on ([SD] table 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import SingDiffusionError
from ..painting.luma import mean_luma
from ..painting.paint import paint
from ..painting.prompts import PAPER_PROMPTS
from ..plugin import SingDiffusion

__all__ = ["PAPER_PROMPTS", "PromptResult", "Spread", "compare", "generate", "missed"]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation, over pictures, of a picture's mean grey (luma, 0..255)."""

    mean: float
    std: float

    @classmethod
    def of(cls, greys: Sequence[float]) -> Spread:
        """Of one number a picture; the deviation is that of the population (0 for one picture)."""
        if len(greys) == 0:
            raise SingDiffusionError("the brightness of no pictures is not defined")
        return cls(float(np.mean(greys)), float(np.std(greys)))


@dataclass(frozen=True)
class PromptResult:
    """Pictures of one prompt, off and on with the same seeds, and, where known, real pictures' brightness."""

    prompt: str
    off: list[Image.Image]
    on: list[Image.Image]
    real: Spread | None = None

    @property
    def greys_off(self) -> list[float]:
        return [mean_luma(image) for image in self.off]

    @property
    def greys_on(self) -> list[float]:
        return [mean_luma(image) for image in self.on]


def missed(result: PromptResult) -> tuple[float, float]:
    """How far the mean grey is from that of real pictures: (off, on), 0..255."""
    if result.real is None:
        raise SingDiffusionError(f"no real pictures are known for {result.prompt!r}")
    return tuple(abs(float(np.mean(g)) - result.real.mean) for g in (result.greys_off, result.greys_on))  # type: ignore


def generate(
    pipe: Any,
    prompt: str,
    seeds: Sequence[int],
    *,
    batch: int = 8,
    controls: Sequence[Image.Image] | None = None,
    **options: Any,
) -> Iterator[Image.Image]:
    """Pictures of a prompt, one a seed; a picture does not depend on which others are made beside it.

    Args:
        batch: pictures in one call of the pipeline.
        controls: for a ControlNet, what to follow; taken in turn, again from the first one when they are used up.
        options: as for ``painting.paint``.
    """
    for start in range(0, len(seeds), batch):
        part = seeds[start : start + batch]
        followed = None if controls is None else [controls[(start + i) % len(controls)] for i in range(len(part))]
        yield from paint(pipe, [prompt] * len(part), part, controls=followed, **options)


def compare(
    pipe: Any,
    sing: SingDiffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    real: dict[str, Spread] | None = None,
    controls: dict[str, Sequence[Image.Image]] | None = None,
    **options: Any,
) -> list[PromptResult]:
    """Every prompt with every seed, off and on.

    Args:
        pipe: the pipeline.
        sing: enabled on it.
        prompts: texts.
        seeds: the same for all prompts, off and on.
        real: prompt -> brightness of real pictures, where it is known.
        controls: prompt -> what a ControlNet follows.
        options: as in ``generate``.

    Raises:
        SingDiffusionError: ``sing`` is not enabled.
    """
    if not sing.enabled:
        raise SingDiffusionError("enable SingDiffusion on the pipeline before comparing")
    results = []
    for prompt in prompts:
        if controls is not None:
            options["controls"] = controls[prompt]
        with sing.disabled():
            off = list(generate(pipe, prompt, seeds, **options))
        on = list(generate(pipe, prompt, seeds, **options))
        results.append(PromptResult(prompt, off, on, (real or {}).get(prompt)))
    return results
