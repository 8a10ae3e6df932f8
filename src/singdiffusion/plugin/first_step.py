"""The first step of a diffusers scheduler: coefficients of the state at its first timestep.

A scheduler's state is x = A x_0 + B noise, with its own A and B, and the network's input is m x. A pipeline's
``prepare_latents`` multiplies the noise by n = ``init_noise_sigma``. All of these are known after ``set_timesteps``;
``schedulers`` reads them for each class.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import SingDiffusionError
from .schedulers import REFUSED, reading_of


@dataclass(frozen=True)
class FirstStep:
    """The state at the first timestep, split into a variance-preserving part and its scale: x = scale (alpha x_0 + sigma noise).

    Attributes:
        alpha, sigma: in [0, 1]; alpha^2 + sigma^2 = 1 unless the scheduler matches flows, where alpha + sigma = 1.
        scale: what the scheduler's state is in units of that; 1 for all but the Euler and EDM families.
        input_scale: m, by which the network's input is that state multiplied.
        noise_scale: n, by which ``prepare_latents`` multiplies the noise.
        timestep: the first timestep, as the network gets it.
    """

    alpha: float
    sigma: float
    scale: float
    input_scale: float
    noise_scale: float
    timestep: float


def require_start(scheduler: Any) -> None:
    """Raise SingDiffusionError if a scheduler has no first step from noise; its timesteps need not be set."""
    name = type(scheduler).__name__
    if name in REFUSED:
        raise SingDiffusionError(f"the scheduler {name} is not supported: {REFUSED[name]}")


def first_step_of(scheduler: Any) -> FirstStep:
    """Return the first step of a scheduler whose timesteps are set.

    Raises:
        SingDiffusionError: the scheduler is in no known family, its timesteps are not set, or a coefficient is not finite.
    """
    require_start(scheduler)
    name = type(scheduler).__name__
    ready = getattr(scheduler, "num_inference_steps", None) is not None or getattr(scheduler, "custom_timesteps", False)
    if not ready or getattr(scheduler, "timesteps", None) is None or len(scheduler.timesteps) == 0:
        raise SingDiffusionError(f"the timesteps of {name} are not set; call set_timesteps first")
    alpha, sigma, scale, m = reading_of(scheduler)(scheduler)
    noise_scale = float(getattr(scheduler, "init_noise_sigma", 1.0))  # flow matching has no such attribute
    step = FirstStep(alpha, sigma, scale, m, noise_scale, float(scheduler.timesteps[0]))
    if not all(map(math.isfinite, (step.alpha, step.sigma, step.scale, step.input_scale, step.noise_scale))):
        raise SingDiffusionError(f"the first step of {name} is not finite: {step}")
    return step


def continues(scheduler: Any, x_1: Tensor) -> bool:
    """Return whether a call that was given latents resumes a half-denoised state, and does not start from noise.

    Either the first timestep is below the one from which the scheduler itself starts with as many steps; or the root mean square of the
    latents is not that of noise, 1, by more than 10 % and five standard errors.

    Args:
        scheduler: its timesteps are set.
        x_1: the latents over the scheduler's noise scale, shape (B, ...).
    """
    size = x_1[0].numel()
    rms = x_1.flatten(1).square().mean(1).sqrt()
    if bool(((rms - 1).abs() > 0.1 + 5 / math.sqrt(2 * size)).any()):
        return True
    return float(scheduler.timesteps[0]) < _own_first_timestep(scheduler) - 1


def _own_first_timestep(scheduler: Any) -> float:
    """Return the first timestep that a scheduler chooses itself for its number of steps."""
    own = copy.deepcopy(scheduler)
    if hasattr(own, "custom_timesteps"):
        own.custom_timesteps = False
    count = getattr(scheduler, "num_inference_steps", None) or len(scheduler.timesteps)
    own.set_timesteps(int(count))
    return float(own.timesteps[0])
