"""accelerate, started for a run: its own configuration (``accelerate launch``, FSDP, DeepSpeed) is used as it is."""

from __future__ import annotations

from datetime import timedelta

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import InitProcessGroupKwargs

from ..errors import SingDiffusionError, one_line
from .config import Config
from .trials import try_machine


def make_accelerator(config: Config, cpu: bool) -> Accelerator:
    """Return the accelerator of a run.

    Args:
        cpu: use the CPU even where there is something faster.

    Raises:
        SingDiffusionError: a tracker is not installed, accelerate cannot start as it is configured, or what the run needs of this
            machine does not work.
    """
    for name in config.log.trackers:  # accelerate would leave out such a one without a word
        if name in LOGGER_TYPE_TO_CLASS and name not in map(str, get_available_trackers()):
            raise SingDiffusionError(
                f"log.trackers: {name} is not installed; pip install {name}, or use log.trackers=[]",
                setting="log.trackers",
            )
    try:
        accelerator = Accelerator(
            cpu=cpu,
            mixed_precision=config.precision,
            log_with=list(config.log.trackers) or None,
            project_dir=str(config.out),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=config.timeout))],
        )
    except (ValueError, RuntimeError) as error:
        setting = "precision" if "mixed precision" in str(error) else None
        raise SingDiffusionError(
            f"accelerate cannot start as it is configured: {one_line(error)}", setting=setting
        ) from error
    try_machine(config, accelerator.device)
    return accelerator
