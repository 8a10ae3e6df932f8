"""Make a scheduler of diffusers from a configuration of others, whose values are checked first: diffusers computes with any."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from ..errors import SingDiffusionError, one_line_error
from ..modules.limits import right_type

MOST_TIMESTEPS = 100_000  # of training; published models have 1000

_POSITIVE = (
    "sigma_min sigma_max sigma_data rho shift flow_shift base_shift max_shift snr_shift_scale timestep_scaling base_image_seq_len "
    "max_image_seq_len original_inference_steps shift_terminal"
)
# Key -> (least, most) of a number; both are allowed.
_BOUNDS = {
    "num_train_timesteps": (1, MOST_TIMESTEPS),
    "steps_offset": (0, 1000),
    "beta_start": (1e-12, 0.999),
    "beta_end": (1e-12, 1.0),
    **dict.fromkeys(_POSITIVE.split(), (1e-9, 1e9)),
}
_WORDS = {
    "prediction_type": ("epsilon", "v_prediction", "sample", "flow_prediction"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"),
    "sigma_schedule": ("karras", "exponential"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "interpolation_type": ("linear", "log_linear"),
    "timestep_type": ("discrete", "continuous"),
}


def scheduler_of(config: Mapping[str, Any], where: Any, class_name: str | None = None) -> Any:
    """Return the scheduler of a configuration.

    Args:
        config: as in ``scheduler_config.json``. Keys that its class does not take are ignored, as in diffusers.
        where: its origin, for messages.
        class_name: of another scheduler than the configuration names.

    Raises:
        SingDiffusionError: its class is unknown, a value is wrong, or the class refuses it.
    """
    name = class_name or config.get("_class_name")
    if not isinstance(name, str):
        raise SingDiffusionError(f"{where} is not a scheduler's configuration: it has no _class_name")
    kind = _class_of(name, "" if class_name else f"{where}: ")
    require_scheduler(kind, config, where)
    with one_line_error(f"{where} does not fit {name}"):
        return kind.from_config(dict(config))


def require_scheduler(kind: Any, config: Mapping[str, Any], where: Any) -> None:
    """Check the values that a scheduler's class takes: each has the type of its default, and numbers are within their bounds.

    Args:
        kind: the class.
        config: of the scheduler.
        where: its origin, for messages.

    Raises:
        SingDiffusionError: a value is wrong; the line names its key.
    """
    for key, parameter in inspect.signature(kind.__init__).parameters.items():
        if key in config and parameter.default is not parameter.empty:
            right = _right(key, config[key], parameter.default)
            if right:
                raise SingDiffusionError(f"{where}: {key} must be {right}, not {config[key]!r:.40}")
    betas = config.get("trained_betas")
    if betas is not None and len(betas) < config.get("num_train_timesteps", len(betas)):
        raise SingDiffusionError(f"{where}: trained_betas has {len(betas)} numbers; num_train_timesteps asks for more")


def _right(key: str, value: Any, default: Any) -> str | None:
    """Return what the value of a key must be, or None where it is that."""
    if value is None and default is None:
        return None
    if key == "trained_betas":
        return None if _are_betas(value) else "a list of numbers above 0 and below 1"
    if key in _WORDS:
        return None if isinstance(value, str) and value in _WORDS[key] else f"one of {', '.join(_WORDS[key])}"
    if key in _BOUNDS or (isinstance(default, int | float) and not isinstance(default, bool)):
        return _right_number(key, value, isinstance(default, int))
    return right_type(value, default)


def _right_number(key: str, value: Any, whole: bool) -> str | None:
    least, most = _BOUNDS.get(key, (-math.inf, 1e9))
    whole = whole and key not in ("sigma_max", "shift")  # of which a class has a whole default
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if number and least <= value <= most:
        return None
    kind = "a whole number" if whole else "a number"
    return kind if least == -math.inf else f"{kind} within {least:g}..{most:g}"


def _are_betas(value: Any) -> bool:
    """Return whether a value is a list of variances of steps; the last may be 1, at zero SNR."""
    if not isinstance(value, list | tuple) or not value or len(value) > MOST_TIMESTEPS:
        return False
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) and 0 < each <= 1 for each in value)
    return numbers and all(each < 1 for each in value[:-1])


def _class_of(name: Any, where: str) -> Any:
    """Return a scheduler's class by its name; ``where`` begins the message for one that is unknown."""
    import diffusers

    found = getattr(diffusers, str(name), None)
    if not isinstance(found, type) or not str(name).endswith("Scheduler") or not hasattr(found, "set_timesteps"):
        raise SingDiffusionError(
            f"{where}unknown scheduler {name!r:.80}; it is a class of diffusers, such as DDIMScheduler",
            setting=None if where else "scheduler",
        )
    return found
