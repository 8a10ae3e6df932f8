"""Whether a scheduler can paint in a number of steps: PNDM cannot in three, LCM not in sixty, and others not in as many as it was trained on."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
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
    kind, config = type(pipe.scheduler), pipe.scheduler.to_json_string()
    name, can = kind.__name__, lambda number: _can(kind, config, number)
    if name not in SCHEDULERS.values() or can(steps) or not can(USUAL):
        return
    around = itertools.chain.from_iterable((steps - off, steps + off) for off in range(1, MOST))
    near = next(number for number in around if 0 < number <= MOST and can(number))
    raise SingDiffusionError(f"{name} cannot do {steps} steps; try {near}", setting="num_inference_steps")


@functools.lru_cache(256)  # LMS takes seconds for many steps, and evaluate asks at every gallery
def _can(kind: Any, config: str, steps: int) -> bool:
    """Return whether a scheduler takes all steps, and ends with finite numbers.

    Args:
        kind: its class.
        config: its configuration as JSON.
    """
    twin = kind.from_config(json.loads(config))
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
