"""Another scheduler for a pipeline."""

from __future__ import annotations

from typing import Any

from ..choices import scheduler_class
from ..errors import SingDiffusionError, one_line


def set_scheduler(pipe: Any, name: str) -> None:
    """Give the pipeline another scheduler, made from the configuration of its own.

    Args:
        pipe: a diffusers pipeline.
        name: short name or class; see ``choices.scheduler_class``.

    Raises:
        SingDiffusionError: the name is unknown, or the scheduler needs a package that is not installed.
    """
    import diffusers

    class_name = scheduler_class(name)
    try:
        pipe.scheduler = getattr(diffusers, class_name).from_config(pipe.scheduler.config)
    except ImportError as error:  # DPMSolverSDEScheduler needs torchsde
        raise SingDiffusionError(
            f"the scheduler {name} needs a package that is not installed: {one_line(error)}", setting="scheduler"
        ) from error
