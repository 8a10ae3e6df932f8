"""Remedies for the wrong start, a small file each, and which of them a model can have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .first_step import FirstStep
from .flat_color import MID_GREY, FlatColor
from .off import Off
from .one_more_step import NAME, NEEDS, TITLE, OneMoreStep
from .protocol import Absent, Remedy
from .signal_leak import LatentStatistics, SignalLeak
from .trailing import Trailing
from .zero_snr import GUIDANCE_RESCALE, ZeroSnr

__all__ = [
    "UNTRIED",
    "Absent",
    "FirstStep",
    "FlatColor",
    "LatentStatistics",
    "Off",
    "OneMoreStep",
    "Remedy",
    "SignalLeak",
    "Trailing",
    "ZeroSnr",
    "available",
]

_RETRAINED = "needs the base retrained; no such base is here, and your own can be measured as a model"
UNTRIED = (
    Absent("offset-noise", "offset noise", "the base, retrained", _RETRAINED),  # Guttenberg, Cross Labs 2023
    Absent("input-perturbation", "input perturbation", "the base, retrained", _RETRAINED),  # arXiv 2301.11706
)
"""Remedies that change training and not the start of sampling."""


def available(
    pipe: Any,
    modules: Sequence[str] = ("tiny-unet", "tiny"),
    *,
    embedded: bool = False,
    statistics: Path | None = None,
    colors: Sequence[str] = (MID_GREY,),
    one_more_step: str | None = None,
) -> tuple[list[Remedy], list[Absent]]:
    """Return the remedies that a pipeline can have, ``off`` first, and the others with the reason; both in the order of the table.

    Args:
        pipe: the base model.
        modules: for SingDiffusion's first step, each with its mean and, where it predicts the covariance, with its moments.
        embedded: whether the base is one of ``tiny.MODELS``, whose statistics need no folder.
        statistics: for the signal leak, a folder that ``singdiffusion encode`` wrote.
        colors: for flat starts.
        one_more_step: a OneMoreStep module's folder or hub id.

    Raises:
        SingDiffusionError: a module, colour or folder that is named does not exist or cannot be used.
    """
    signal_leak, oms = _signal_leak(pipe, embedded, statistics), _one_more_step(one_more_step)
    wanted: list[Remedy | Absent] = [
        Off(),
        Trailing(),
        ZeroSnr(),
        ZeroSnr(guidance_rescale=GUIDANCE_RESCALE),
        ZeroSnr(spacing="leading"),
        signal_leak,
        *map(FlatColor, colors),
        oms,
        *(remedy for module in modules for remedy in _first_steps(module)),
    ]
    fitting: list[Remedy] = []
    absent: list[Absent] = []
    for each in wanted:
        reason = None if isinstance(each, Absent) else each.unfit(pipe)
        if isinstance(each, Absent):
            absent.append(each)
        elif reason is not None:
            absent.append(Absent.of(each, reason))
        else:
            fitting.append(each)
    return fitting, [*absent, *UNTRIED]


def _first_steps(module: str) -> list[Remedy]:
    first = FirstStep(module, "mean")
    return [first, FirstStep(module, "moments", first.module)] if first.module.predicts_covariance else [first]


def _signal_leak(pipe: Any, embedded: bool, folder: Path | None) -> Remedy | Absent:
    if folder is not None:
        return SignalLeak(LatentStatistics.of_folder(folder))
    if embedded:
        return SignalLeak(LatentStatistics.of_embedded(pipe))
    reason = "no statistics of the data's latents are given: a folder that singdiffusion encode wrote"
    return Absent(SignalLeak.name, SignalLeak.title, SignalLeak.needs, reason)


def _one_more_step(module: str | None) -> Remedy | Absent:
    if module is not None:
        return OneMoreStep(module)
    reason = "no OneMoreStep module is given"
    return Absent(NAME, TITLE, NEEDS, reason)
