"""Where a diffusers scheduler starts: the coefficients of the state that its first timestep expects.

Every scheduler keeps its state as x = A x_0 + B noise, with its own A and B, and hands the network m x. ``prepare_latents``
of a pipeline has multiplied the noise by n = ``init_noise_sigma``. After ``set_timesteps`` all of them can be read off, in the
way of the scheduler's family. A class that is in no family is asked itself (``probe``) and taken if its answer is that of one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import SingDiffusionError


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


Reading = tuple[float, float, float, float]  # alpha, sigma, scale, m


def _by_alphas_cumprod(scheduler: Any) -> Reading:
    """DDIM and its kin: the state is variance-preserving, alpha^2 stands in a table of integer timesteps."""
    bar = float(scheduler.alphas_cumprod[int(scheduler.timesteps[0])])
    return math.sqrt(bar), math.sqrt(1 - bar), 1.0, 1.0


def _by_sigma_to_alpha(scheduler: Any) -> Reading:
    """DPM-Solver and its kin: the state is variance-preserving, the sigmas are sigma / alpha, or those of flows."""
    alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[0].double())
    return float(alpha), float(sigma), 1.0, 1.0


def _by_sigmas(scheduler: Any) -> Reading:
    """Euler and its kin: the state is x_0 + sigma noise, sigma standing for sigma / alpha; the network gets it over ``scale``."""
    return _exploding(float(scheduler.sigmas[0]), 1.0)


def _by_edm(scheduler: Any) -> Reading:
    """EDM (Karras et al., arXiv 2206.00364): as Euler, but the network gets it over sqrt(sigma^2 + sigma_data^2)."""
    return _exploding(float(scheduler.sigmas[0]), float(scheduler.config.sigma_data))


def _exploding(sigma: float, sigma_data: float) -> Reading:
    """x_0 + sigma noise = sqrt(1 + sigma^2) (alpha x_0 + sigma' noise)."""
    scale = math.hypot(1, sigma)
    return 1 / scale, sigma / scale, scale, 1 / math.hypot(sigma_data, sigma)


def _by_flow(scheduler: Any) -> Reading:
    """Flow matching: the state is (1 - sigma) x_0 + sigma noise."""
    sigma = float(scheduler.sigmas[0])
    return 1 - sigma, sigma, 1.0, 1.0


@dataclass(frozen=True)
class Family:
    """Schedulers whose first step is read in the same way.

    Attributes:
        state: the scheduler's state at the first timestep, for people.
        read: from a scheduler whose timesteps are set to (alpha, sigma, scale, m).
        classes: names of diffusers' classes.
    """

    state: str
    read: Callable[[Any], Reading]
    classes: tuple[str, ...]


# A new scheduler is a name here.
FAMILIES = (
    Family(
        "alpha x_0 + sigma noise, alpha^2 = alphas_cumprod[t]",
        _by_alphas_cumprod,
        (
            "DDIMScheduler",
            "DDIMParallelScheduler",
            "DDPMScheduler",
            "DDPMParallelScheduler",
            "PNDMScheduler",
            "LCMScheduler",
            "TCDScheduler",
            "CogVideoXDDIMScheduler",
            "CogVideoXDPMScheduler",
        ),
    ),
    Family(
        "alpha x_0 + sigma noise, sigma / alpha = sigmas[0]",
        _by_sigma_to_alpha,
        (
            "DPMSolverMultistepScheduler",
            "DPMSolverSinglestepScheduler",
            "UniPCMultistepScheduler",
            "DEISMultistepScheduler",
            "SASolverScheduler",
        ),
    ),
    Family(
        "x_0 + sigmas[0] noise",
        _by_sigmas,
        (
            "EulerDiscreteScheduler",
            "EulerAncestralDiscreteScheduler",
            "HeunDiscreteScheduler",
            "LMSDiscreteScheduler",
            "KDPM2DiscreteScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "DPMSolverSDEScheduler",
        ),
    ),
    Family(
        "x_0 + sigmas[0] noise, the network's input scaled by sigma_data",
        _by_edm,
        ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler"),
    ),
    Family(
        "(1 - sigmas[0]) x_0 + sigmas[0] noise",
        _by_flow,
        (
            "FlowMatchEulerDiscreteScheduler",
            "FlowMatchHeunDiscreteScheduler",
            "FlowMatchLCMScheduler",
        ),
    ),
)
_READ = {name: family.read for family in FAMILIES for name in family.classes}

# Classes of diffusers that have no first step of this kind, and why.
REFUSED = {
    "AmusedScheduler": "it unmasks tokens",
    "BlockRefinementScheduler": "it refines tokens",
    "CMStochasticIterativeScheduler": "consistency models are not told what to paint",
    "ConsistencyDecoderScheduler": "it decodes latents",
    "DDIMInverseScheduler": "it goes from the picture to the noise",
    "DPMSolverMultistepInverseScheduler": "it goes from the picture to the noise",
    "DDPMWuerstchenScheduler": "its pipelines are not supported",
    "DiscreteDDIMScheduler": "it denoises tokens",
    "EntropyBoundScheduler": "it denoises tokens",
    "FlowMapEulerDiscreteScheduler": "flow maps start from noise alone, there is nothing to fix",
    "HeliosDMDScheduler": "its flows start from noise alone, there is nothing to fix",
    "HeliosScheduler": "its flows start from noise alone, there is nothing to fix",
    "IPNDMScheduler": "its pipelines are not told what to paint",
    "KarrasVeScheduler": "its pipelines are not told what to paint",
    "LTXEulerAncestralRFScheduler": "its flows start from noise alone, there is nothing to fix",
    "MiniMaxH3Scheduler": "its flows start from noise alone, there is nothing to fix",
    "PiflowScheduler": "its flows start from noise alone, there is nothing to fix",
    "RFD4ProteinaScheduler": "it folds proteins",
    "RePaintScheduler": "it starts from a picture",
    "SCMScheduler": "its trigonometric flows start from noise alone, there is nothing to fix",
    "ScoreSdeVeScheduler": "its pipelines are not told what to paint",
    "ScoreSdeVpScheduler": "its pipelines are not told what to paint",
    "UnCLIPScheduler": "its pipelines are not supported",
    "VQDiffusionScheduler": "it denoises tokens",
}


def require_start(scheduler: Any) -> None:
    """Raise SingDiffusionError if a scheduler is one that has no first step from noise, before any timesteps are set."""
    name = type(scheduler).__name__
    if name in REFUSED:
        raise SingDiffusionError(f"the scheduler {name} is not supported: {REFUSED[name]}")


def first_step_of(scheduler: Any) -> FirstStep:
    """Read the first step of a scheduler whose timesteps are set.

    Raises:
        SingDiffusionError: the scheduler is of no known family, its timesteps are not set, or what it says is not finite.
    """
    require_start(scheduler)
    name = type(scheduler).__name__
    ready = getattr(scheduler, "num_inference_steps", None) is not None or getattr(scheduler, "custom_timesteps", False)
    if not ready or getattr(scheduler, "timesteps", None) is None or len(scheduler.timesteps) == 0:
        raise SingDiffusionError(f"the timesteps of {name} are not set; call set_timesteps first")
    alpha, sigma, scale, m = (_READ.get(name) or _like(scheduler))(scheduler)
    noise_scale = float(getattr(scheduler, "init_noise_sigma", 1.0))  # flow matching has none
    step = FirstStep(alpha, sigma, scale, m, noise_scale, float(scheduler.timesteps[0]))
    if not all(map(math.isfinite, (step.alpha, step.sigma, step.scale, step.input_scale, step.noise_scale))):
        raise SingDiffusionError(f"the first step of {name} is not finite: {step}")
    return step


def probe(scheduler: Any) -> tuple[float, float, float]:
    """(A, B, m) at the first timestep, asked of a copy of the scheduler: its ``add_noise`` and ``scale_model_input``.

    Independent of the table above, which the tests hold against it. It cannot be the table: SASolver's ``add_noise`` passes over
    its sigmas, and several classes' cannot take fractional timesteps.
    """
    twin = copy.deepcopy(scheduler)
    if hasattr(twin, "set_begin_index"):
        twin.set_begin_index(0)  # where timesteps repeat, the search for one finds the second
    one, zero, t = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), twin.timesteps[:1]
    a, b = twin.add_noise(one, zero, t), twin.add_noise(zero, one, t)
    return float(a), float(b), float(twin.scale_model_input(one, t[0]))


def _like(scheduler: Any) -> Callable[[Any], Reading]:
    """The way of the family that an unknown scheduler behaves like.

    Raises:
        SingDiffusionError: it behaves like none, or cannot be asked.
    """
    name = type(scheduler).__name__
    try:
        asked = probe(scheduler)
    except Exception as error:  # foreign code, asked for what it may not have
        raise SingDiffusionError(f"the scheduler {name} is not known, and cannot be asked: {error}") from error
    for family in FAMILIES:
        try:
            alpha, sigma, scale, m = family.read(scheduler)
        except (AttributeError, TypeError, IndexError, ValueError):
            continue
        if all(math.isclose(x, y, rel_tol=1e-3) for x, y in zip(asked, (scale * alpha, scale * sigma, m), strict=True)):
            return family.read
    raise SingDiffusionError(
        f"the scheduler {name} is not known, and behaves like none that is: it starts at "
        f"{asked[0]:.4g} x_0 + {asked[1]:.4g} noise and scales that by {asked[2]:.4g}"
    )
