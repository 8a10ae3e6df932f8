"""The schedulers of diffusers: how the first step of each is read. A new scheduler is a new name in ``FAMILIES``.

A scheduler's state is x = A x_0 + B noise, with its own A and B, and the network's input is m x. Each family has its own way to
read them after ``set_timesteps``. A class in no family is probed (``probe``), and accepted if it behaves like one of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import SingDiffusionError, one_line

Reading = tuple[float, float, float, float]  # alpha, sigma, scale, m


def _by_alphas_cumprod(scheduler: Any) -> Reading:
    """DDIM and similar: the state is variance-preserving, and alpha^2 is in a table of integer timesteps."""
    bar = float(scheduler.alphas_cumprod[int(scheduler.timesteps[0])])
    return math.sqrt(bar), math.sqrt(1 - bar), 1.0, 1.0


def _by_sigma_to_alpha(scheduler: Any) -> Reading:
    """DPM-Solver and similar: the state is variance-preserving, ``sigmas`` are sigma / alpha, or sigma where flows are matched."""
    if scheduler.config.get("use_flow_sigmas"):
        return _by_flow(scheduler)
    alpha, sigma, _, _ = _exploding(float(scheduler.sigmas[0]), 1.0)
    return alpha, sigma, 1.0, 1.0


def _by_sigmas(scheduler: Any) -> Reading:
    """Euler and similar: the state is x_0 + (sigma / alpha) noise, and the network gets it divided by ``scale``."""
    return _exploding(float(scheduler.sigmas[0]), 1.0)


def _by_edm(scheduler: Any) -> Reading:
    """EDM (Karras et al., arXiv 2206.00364): as Euler, but the network gets it divided by sqrt(sigma^2 + sigma_data^2)."""
    return _exploding(float(scheduler.sigmas[0]), float(scheduler.config.sigma_data))


def _exploding(sigma: float, sigma_data: float) -> Reading:
    """Split x_0 + sigma noise into sqrt(1 + sigma^2) (alpha x_0 + sigma' noise)."""
    scale = math.hypot(1, sigma)
    return 1 / scale, sigma / scale, scale, 1 / math.hypot(sigma_data, sigma)


def _by_flow(scheduler: Any) -> Reading:
    """Flow matching: the state is (1 - sigma) x_0 + sigma noise."""
    sigma = float(scheduler.sigmas[0])
    return 1 - sigma, sigma, 1.0, 1.0


@dataclass(frozen=True)
class Family:
    """Schedulers whose first step is read in one way.

    Attributes:
        state: description of the scheduler's state at the first timestep.
        read: scheduler with timesteps -> (alpha, sigma, scale, m).
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

# Classes of diffusers without a first step of this kind, with the reason.
REFUSED = {
    "AmusedScheduler": "it unmasks tokens",
    "BlockRefinementScheduler": "it refines tokens",
    "CMStochasticIterativeScheduler": "consistency models take no prompt",
    "ConsistencyDecoderScheduler": "it decodes latents",
    "DDIMInverseScheduler": "it inverts pictures to noise",
    "DPMSolverMultistepInverseScheduler": "it inverts pictures to noise",
    "DDPMWuerstchenScheduler": "its pipelines are not supported",
    "DiscreteDDIMScheduler": "it denoises tokens",
    "EntropyBoundScheduler": "it denoises tokens",
    "FlowMapEulerDiscreteScheduler": "flow maps start from pure noise, there is nothing to fix",
    "HeliosDMDScheduler": "its flows start from pure noise, there is nothing to fix",
    "HeliosScheduler": "its flows start from pure noise, there is nothing to fix",
    "IPNDMScheduler": "its pipelines take no prompt",
    "KarrasVeScheduler": "its pipelines take no prompt",
    "LTXEulerAncestralRFScheduler": "its flows start from pure noise, there is nothing to fix",
    "MiniMaxH3Scheduler": "its flows start from pure noise, there is nothing to fix",
    "PiflowScheduler": "its flows start from pure noise, there is nothing to fix",
    "RFD4ProteinaScheduler": "it folds proteins",
    "RePaintScheduler": "it starts from a picture",
    "SCMScheduler": "its trigonometric flows start from pure noise, there is nothing to fix",
    "ScoreSdeVeScheduler": "its pipelines take no prompt",
    "ScoreSdeVpScheduler": "its pipelines take no prompt",
    "UnCLIPScheduler": "its pipelines are not supported",
    "VQDiffusionScheduler": "it denoises tokens",
}


def probe(scheduler: Any) -> tuple[float, float, float]:
    """Return (A, B, m) at the first timestep by a copy's ``add_noise`` and ``scale_model_input``.

    It is independent of the table above, and the tests compare both. It cannot replace the table: SASolver's ``add_noise``
    ignores its sigmas, and several classes cannot take fractional timesteps.
    """
    twin = copy.deepcopy(scheduler)
    if hasattr(twin, "set_begin_index"):
        twin.set_begin_index(0)  # a search by timestep would find the second of two equal ones
    one, zero, t = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), twin.timesteps[:1]
    a, b = twin.add_noise(one, zero, t), twin.add_noise(zero, one, t)
    return float(a), float(b), float(twin.scale_model_input(one, t[0]))


def reading_of(scheduler: Any) -> Callable[[Any], Reading]:
    """Return how a scheduler is read: scheduler with timesteps -> (alpha, sigma, scale, m) as in ``FirstStep``.

    Raises:
        SingDiffusionError: its class is unknown, and it behaves like no known one.
    """
    return _READ.get(type(scheduler).__name__) or _behaves_like(scheduler)


def _behaves_like(scheduler: Any) -> Callable[[Any], Reading]:
    """Return the reading of the family that an unknown scheduler behaves like.

    Raises:
        SingDiffusionError: it behaves like none, or cannot be probed.
    """
    name = type(scheduler).__name__
    try:
        probed = probe(scheduler)
    except Exception as error:  # unknown code, which may lack what the probe calls
        raise SingDiffusionError(f"the scheduler {name} is unknown and cannot be probed: {one_line(error)}") from error
    for family in FAMILIES:
        try:
            alpha, sigma, scale, m = family.read(scheduler)
        except (AttributeError, TypeError, IndexError, ValueError):
            continue
        if all(
            math.isclose(x, y, rel_tol=1e-3) for x, y in zip(probed, (scale * alpha, scale * sigma, m), strict=True)
        ):
            return family.read
    raise SingDiffusionError(
        f"the scheduler {name} is unknown and behaves like no known one: it starts at "
        f"{probed[0]:.4g} x_0 + {probed[1]:.4g} noise and scales that by {probed[2]:.4g}"
    )
