"""accelerate, started for a run: its own configuration (``accelerate launch``, FSDP, DeepSpeed) is used as it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

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
    _require_trackers(config.log.trackers)
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


def _require_trackers(names: list[str]) -> None:
    known = [*map(str, LOGGER_TYPE_TO_CLASS), "all"]
    for name in names:
        if name not in known:
            raise SingDiffusionError(
                f"log.trackers: {name!r:.40} is unknown; known: {', '.join(known)}", setting="log.trackers"
            )
        if name != "all" and name not in map(str, get_available_trackers()):  # accelerate would leave it out
            raise SingDiffusionError(
                f"log.trackers: {name} is not installed; pip install {name}, or use log.trackers=[]",
                setting="log.trackers",
            )


def on_main(accelerator: Accelerator, check: Callable[[], None]) -> None:
    """Run a check in the main process. Every process must call this, and raises what the check raises.

    Raises:
        SingDiffusionError, OSError: of the check.
    """
    found: list[Exception | None] = [None]
    if accelerator.is_main_process:
        try:
            check()
        except (SingDiffusionError, OSError) as error:
            found = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    if found[0] is not None:
        raise found[0]


WORDS_OF_LOST_CONNECTIONS = ("connection", "timed out", "timeout", "gloo", "nccl", "peer", "broken pipe", "socket")


def lost_connection(error: Exception) -> bool:
    """Return whether torch reports with this error that another process of the group is gone."""
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS_OF_LOST_CONNECTIONS)
