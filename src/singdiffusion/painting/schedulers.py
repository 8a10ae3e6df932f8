"""Another scheduler for a pipeline."""

from __future__ import annotations

from typing import Any

from ..choices import scheduler_class
from ..errors import SingDiffusionError


def set_scheduler(pipe: Any, name: str) -> None:
    """Give the pipeline another scheduler, made from its own one's configuration."""
    import diffusers

    class_name = scheduler_class(name)
    try:
        pipe.scheduler = getattr(diffusers, class_name).from_config(pipe.scheduler.config)
    except ImportError as error:  # DPMSolverSDEScheduler needs torchsde
        line = " ".join(str(error).split())
        raise SingDiffusionError(f"the scheduler {name} needs a package that is not installed: {line[:200]}") from error
