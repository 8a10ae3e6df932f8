"""What remedies that change the scheduler have in common: another one of the same class replaces it inside a ``with`` block."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

STEPS = 50  # to compare the timesteps of schedulers
PURE_NOISE = 2**-11  # alphas below it hold no signal; Euler and similar schedulers replace 0 by 2^-12


def changed(scheduler: Any, **changes: Any) -> Any:
    """Return a scheduler of the same class and configuration, with changes."""
    return type(scheduler).from_config(scheduler.config, **changes)


@contextmanager
def scheduled(pipe: Any, **changes: Any) -> Iterator[None]:
    """Give the pipeline a changed scheduler inside the block; its own is not touched and comes back afterwards."""
    before = pipe.scheduler
    pipe.scheduler = changed(before, **changes)
    try:
        yield
    finally:
        pipe.scheduler = before


def lacks(scheduler: Any, *options: str) -> str | None:
    """Return a line on the first option that a scheduler's class lacks; ``from_config`` keeps unknown options silently."""
    known = inspect.signature(type(scheduler).__init__).parameters
    missing = next((option for option in options if option not in known), None)
    return None if missing is None else f"{type(scheduler).__name__} has no {missing}"


def timed(scheduler: Any, steps: int = STEPS) -> Any:
    """Return a copy whose timesteps are set."""
    twin = copy.deepcopy(scheduler)
    twin.set_timesteps(steps)
    return twin


def same_course(one: Any, other: Any) -> bool:
    """Return whether two schedulers whose timesteps are set visit the same timesteps at the same noise levels."""
    parts = [(getattr(each, "timesteps", None), getattr(each, "alphas_cumprod", None)) for each in (one, other)]
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(*parts, strict=True))
