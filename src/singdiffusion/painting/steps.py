"""Whether a scheduler can paint in a number of steps: PNDM cannot in three, LCM not in sixty, and others not in as many as it was trained on."""

from __future__ import annotations

import inspect
import itertools
import warnings
from typing import Any

import torch

from ..errors import SingDiffusionError
from .scheduler_names import SCHEDULERS

USUAL = 20  # steps that every scheduler here can do
MOST = 1000


def check_steps(pipe: Any, steps: int) -> None:
    """Check that the scheduler of a pipeline can do a number of steps, by a trial on a sample of four numbers.

    A scheduler that is not among ``SCHEDULERS``, or that the trial does not fit, is not checked.

    Args:
        pipe: a diffusers pipeline.
        steps: ``num_inference_steps``.

    Raises:
        SingDiffusionError: it cannot; the message names the nearest number that it can do.
    """
    name = type(pipe.scheduler).__name__
    if name not in SCHEDULERS.values() or _can(pipe.scheduler, steps) or not _can(pipe.scheduler, USUAL):
        return
    around = itertools.chain.from_iterable((steps - off, steps + off) for off in range(1, MOST))
    near = next(number for number in around if 0 < number <= MOST and _can(pipe.scheduler, number))
    raise SingDiffusionError(f"{name} cannot do {steps} steps; try {near}", setting="num_inference_steps")


def _can(scheduler: Any, steps: int) -> bool:
    """Return whether a new scheduler of the same kind takes all steps, and ends with finite numbers."""
    twin = type(scheduler).from_config(scheduler.config)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            twin.set_timesteps(steps)
            sample = torch.ones(1, 1, 2, 2) * twin.init_noise_sigma
            drawn = "generator" in inspect.signature(twin.step).parameters
            options = {"generator": torch.Generator().manual_seed(0)} if drawn else {}
            for t in twin.timesteps:
                twin.scale_model_input(sample, t)
                sample = twin.step(torch.zeros_like(sample), t, sample, return_dict=False, **options)[0]
        except Exception:  # each scheduler has its own ways to fail
            return False
    return bool(torch.isfinite(sample).all())
