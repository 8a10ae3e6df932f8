"""Where a diffusers scheduler starts: the coefficients of the state that its first timestep expects.

Every scheduler keeps its state as x = A x_0 + B noise, with its own A and B, and hands the network m x. ``prepare_latents``
of a pipeline has multiplied the noise by n = ``init_noise_sigma``. After ``set_timesteps`` all of them can be read off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import SingDiffusionError


@dataclass(frozen=True)
class FirstStep:
    """The state at the first timestep, split into a variance-preserving part and its scale: x = scale (alpha x_0 + sigma noise).

    Attributes:
        alpha, sigma: in [0, 1]; alpha^2 + sigma^2 = 1 unless the scheduler matches flows.
        scale: what the scheduler's state is in units of that; 1 for all but the Euler family.
        noise_scale: n, by which ``prepare_latents`` multiplies the noise.
        timestep: the first timestep, as the network gets it.
    """

    alpha: float
    sigma: float
    scale: float
    noise_scale: float
    timestep: float


def _by_alphas_cumprod(scheduler: Any) -> tuple[float, float, float]:
    """DDIM and its kin: the state is variance-preserving, alpha^2 stands in a table of integer timesteps."""
    bar = float(scheduler.alphas_cumprod[int(scheduler.timesteps[0])])
    return math.sqrt(bar), math.sqrt(1 - bar), 1.0


def _by_sigma_to_alpha(scheduler: Any) -> tuple[float, float, float]:
    """DPM-Solver and its kin: the state is variance-preserving, the sigmas are sigma / alpha."""
    alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[0].double())
    return float(alpha), float(sigma), 1.0


def _by_sigmas(scheduler: Any) -> tuple[float, float, float]:
    """Euler and its kin: the state is x_0 + sigma noise, sigma standing for sigma / alpha; the network gets it over ``scale``."""
    sigma = float(scheduler.sigmas[0])
    scale = math.sqrt(1 + sigma**2)
    return 1 / scale, sigma / scale, scale


# Scheduler class -> how to read (alpha, sigma, scale). A new scheduler is a new line.
FAMILIES: dict[str, Callable[[Any], tuple[float, float, float]]] = {
    "DDIMScheduler": _by_alphas_cumprod,
    "DDPMScheduler": _by_alphas_cumprod,
    "PNDMScheduler": _by_alphas_cumprod,
    "DPMSolverMultistepScheduler": _by_sigma_to_alpha,
    "UniPCMultistepScheduler": _by_sigma_to_alpha,
    "EulerDiscreteScheduler": _by_sigmas,
    "EulerAncestralDiscreteScheduler": _by_sigmas,
}


def first_step_of(scheduler: Any) -> FirstStep:
    """Read the first step of a scheduler whose timesteps are set.

    Raises:
        SingDiffusionError: the scheduler's class is not in ``FAMILIES``, its timesteps are not set, or what it says
            is not finite.
    """
    name = type(scheduler).__name__
    read = FAMILIES.get(name)
    if read is None:
        raise SingDiffusionError(f"the scheduler {name} is not supported; supported: {', '.join(FAMILIES)}")
    ready = scheduler.num_inference_steps is not None or getattr(scheduler, "custom_timesteps", False)
    if not ready or scheduler.timesteps is None or len(scheduler.timesteps) == 0:
        raise SingDiffusionError(f"the timesteps of {name} are not set; call set_timesteps first")
    alpha, sigma, scale = read(scheduler)
    step = FirstStep(alpha, sigma, scale, float(scheduler.init_noise_sigma), float(scheduler.timesteps[0]))
    if not all(map(math.isfinite, (step.alpha, step.sigma, step.scale, step.noise_scale))):
        raise SingDiffusionError(f"the first step of {name} is not finite: {step}")
    return step
