"""Optimisation: the learning rate of each step, the optimizer, and how a batch is divided over processes and micro-batches."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..compat import fuses_adamw
from ..errors import SingDiffusionError, install_hint
from .config import Config, Optimizer, Schedule


def learning_rate(schedule: Schedule, peak: float, step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0, out of ``steps``.

    It has no state, so a run that resumes has the same rates.
    """
    warm = min(1.0, (step + 1) / schedule.warm_up) if schedule.warm_up else 1.0
    if schedule.shape == "constant":
        return peak * warm
    fall = max(0.0, (step / steps - schedule.hold) / (1 - schedule.hold))
    return peak * warm * (schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * fall)))


def make_optimizer(spec: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return AdamW, fused where torch can on every device, or with 8-bit states.

    Raises:
        SingDiffusionError: 8-bit states without bitsandbytes.
    """
    options: dict[str, Any] = {"lr": spec.rate, "betas": spec.betas, "weight_decay": spec.weight_decay}
    if spec.name == "adamw":
        return torch.optim.AdamW(parameters, fused=fuses_adamw(), **options)
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]  (extra `8bit`)
    except ImportError as error:
        raise SingDiffusionError(
            f"optimizer adamw8bit needs bitsandbytes: {install_hint('8bit')}", setting="optimizer.name"
        ) from error
    return AdamW8bit(parameters, **options)


def micro_batches(config: Config, world: int) -> tuple[int, int]:
    """Return (pictures at once, micro-batches per step) of each of ``world`` processes.

    Raises:
        SingDiffusionError: the batch is not a multiple of the processes, or a process's share not one of ``micro_batch``.
    """
    if config.batch % world:
        raise SingDiffusionError(
            f"batch must be a multiple of the {world} processes, not {config.batch}", setting="batch"
        )
    share = config.batch // world
    micro = min(config.micro_batch or share, share)
    if share % micro:
        raise SingDiffusionError(
            f"micro_batch must divide the {share} pictures that each of {world} processes has per step, not {micro}",
            setting="micro_batch",
        )
    return micro, share // micro
