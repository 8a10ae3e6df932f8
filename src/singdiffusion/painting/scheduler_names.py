"""Schedulers by name: short for people, diffusers' class in records, the name in artists' tools. Free of torch, so that --help is quick."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import SingDiffusionError, one_line


class SchedulerChoice(NamedTuple):
    """One scheduler.

    Attributes:
        short: name on the command line and on the page.
        class_name: diffusers' class, as PNG files and JSON record it.
        sampler: name in AUTOMATIC1111's web UI, or the closest to it that its forks and ComfyUI use.
    """

    short: str
    class_name: str
    sampler: str


_CHOICES = (
    SchedulerChoice("ddim", "DDIMScheduler", "DDIM"),
    SchedulerChoice("ddpm", "DDPMScheduler", "DDPM"),
    SchedulerChoice("pndm", "PNDMScheduler", "PLMS"),
    SchedulerChoice("euler", "EulerDiscreteScheduler", "Euler"),
    SchedulerChoice("euler-ancestral", "EulerAncestralDiscreteScheduler", "Euler a"),
    SchedulerChoice("heun", "HeunDiscreteScheduler", "Heun"),
    SchedulerChoice("lms", "LMSDiscreteScheduler", "LMS"),
    SchedulerChoice("kdpm2", "KDPM2DiscreteScheduler", "DPM2"),
    SchedulerChoice("kdpm2-ancestral", "KDPM2AncestralDiscreteScheduler", "DPM2 a"),
    SchedulerChoice("dpm++", "DPMSolverMultistepScheduler", "DPM++ 2M"),
    SchedulerChoice("dpm++-single", "DPMSolverSinglestepScheduler", "DPM++ 2S"),
    SchedulerChoice("dpm++-sde", "DPMSolverSDEScheduler", "DPM++ SDE"),
    SchedulerChoice("unipc", "UniPCMultistepScheduler", "UniPC"),
    SchedulerChoice("deis", "DEISMultistepScheduler", "DEIS"),
    SchedulerChoice("sa-solver", "SASolverScheduler", "SA-Solver"),
    SchedulerChoice("lcm", "LCMScheduler", "LCM"),
    SchedulerChoice("tcd", "TCDScheduler", "TCD"),
)
SCHEDULERS = {choice.short: choice.class_name for choice in _CHOICES}
_SAMPLERS = {choice.class_name: choice.sampler for choice in _CHOICES}


def scheduler_class(name: str) -> str:
    """Return diffusers' class name of a scheduler, which may be given by its short name or by its class.

    Raises:
        SingDiffusionError: the name is unknown.
    """
    class_name = SCHEDULERS.get(name.lower(), name)
    if class_name not in _SAMPLERS:
        raise SingDiffusionError(
            f"unknown scheduler {name!r}; known: {', '.join(SCHEDULERS)}, or diffusers' class names",
            setting="scheduler",
        )
    return class_name


def sampler_name(class_name: str) -> str:
    """Return the name that artists' tools use for a scheduler's class, such as "Euler a"; of an unknown one the class's own."""
    return _SAMPLERS.get(class_name, class_name.removesuffix("Scheduler"))


def set_scheduler(pipe: Any, name: str) -> None:
    """Give the pipeline another scheduler, made from the configuration of its own.

    Args:
        pipe: a diffusers pipeline.
        name: short name or class; see ``painting.scheduler_names.scheduler_class``.

    Raises:
        SingDiffusionError: the name is unknown, the scheduler needs a package that is not installed, or does not take the configuration.
    """
    import diffusers

    class_name = scheduler_class(name)
    try:
        pipe.scheduler = getattr(diffusers, class_name).from_config(pipe.scheduler.config)
    except ImportError as error:  # DPMSolverSDEScheduler needs torchsde
        raise SingDiffusionError(
            f"the scheduler {name} needs a package that is not installed: {one_line(error)}", setting="scheduler"
        ) from error
    except Exception as error:  # such as NotImplementedError for a course of noise that only its own scheduler has
        own = type(pipe.scheduler).__name__
        raise SingDiffusionError(
            f"the scheduler {name} does not take the configuration of the model's {own}: {one_line(error)}",
            setting="scheduler",
        ) from error
