"""Whether a model is affected, how badly, and what to do: from its configuration alone, without weights."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError, one_line_error
from ..published.places import folder_of
from ..reading import read_json
from .first_step import FirstStep, first_step_of
from .scheduler_config import MOST_TIMESTEPS, scheduler_of

CONFIGURATIONS = ["model_index.json", "scheduler/*.json", "*/config.json"]
ABSENT, MILD, PRESENT = "absent", "mild", "present"
# A channel's mean displaced by a fifth of the noise's own deviation is lost in it; by twice, it is what the eye sees.
MILD_FROM, PRESENT_FROM = 0.2, 2.0
MOST_SIDE = 2**16  # of latents


@dataclass(frozen=True)
class Audit:
    """What a scheduler's first step loses; ``print`` gives it as text.

    Attributes:
        scheduler: class of the scheduler.
        num_inference_steps: denoising steps.
        latents: height and width of the latents.
        prediction_type: output of the denoiser.
        terminal_snr: alpha^2 / sigma^2 at the last timestep of training; 0 is pure noise.
        first_timestep: where sampling starts.
        alpha: of the state there, x = alpha x_0 + sigma noise (times the scheduler's own scale).
        sigma: likewise.
        gain: sigma / alpha, the factor by which an error of a noise prediction grows in its estimate of x_0; inf at pure noise.
        d: alpha sqrt(H W) / sigma, the missing displacement of a channel's mean, in standard deviations of the noise per unit of
            latent mean (docs/audit.md).
        verdict: "absent" (d below 0.2), "mild", or "present" (d of 2 or more).
        reason: for the verdict, in one sentence.
        remedy: what to do, in one sentence.
        warnings: combinations that break.
    """

    scheduler: str
    num_inference_steps: int
    latents: tuple[int, int]
    prediction_type: str
    terminal_snr: float
    first_timestep: float
    alpha: float
    sigma: float
    gain: float
    d: float
    verdict: str
    reason: str
    remedy: str
    warnings: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return the attributes for JSON, which has no infinity: a ``gain`` of inf becomes None."""
        return asdict(self) | {"gain": self.gain if math.isfinite(self.gain) else None}

    def __str__(self) -> str:
        lines = [
            f"{self.verdict}: {self.reason}",
            f"what to do: {self.remedy}",
            *(f"warning: {line}" for line in self.warnings),
            f"{self.scheduler}, {self.num_inference_steps} steps, latents of {self.latents[0]} x {self.latents[1]}, "
            f"{self.prediction_type} prediction, terminal SNR {self.terminal_snr:.3g}",
            f"first timestep {self.first_timestep:g}: alpha {self.alpha:.4g}, sigma {self.sigma:.4g}, "
            f"gain {self.gain:.4g}, d {self.d:.3g}",
        ]
        return "\n".join(lines)


def audit(
    target: Any,
    num_inference_steps: int = 50,
    *,
    scheduler: str | None = None,
    latents: int | tuple[int, int] | None = None,
) -> Audit:
    """Return whether a model starts sampling from the wrong noise, and what to do about it.

    Args:
        target: a pipeline, a scheduler, its configuration (a mapping), or a name: "tiny" (or "tiny-v", ...), a model's folder in
            diffusers' layout, a ``scheduler_config.json``, or a hub id, of which only configurations are downloaded.
        num_inference_steps: denoising steps; fewer lose more with ``leading`` spacing.
        scheduler: the class name of another scheduler, made from the model's configuration.
        latents: height and width of the latents (one number: both); by default the denoiser's own.

    Raises:
        SingDiffusionError: the target is none of these, or the size of its latents is unknown.
    """
    if not isinstance(num_inference_steps, int) or num_inference_steps < 1:
        raise SingDiffusionError(f"num_inference_steps must be a positive integer, not {num_inference_steps!r:.40}")
    ours, size = _read(target)
    size = latents if latents is not None else size
    if size is None:
        raise SingDiffusionError(
            "the size of the latents is unknown; pass latents, height and width", setting="latents"
        )
    sides = _sides(size)
    if scheduler is not None:
        ours = scheduler_of(ours.config, "the scheduler's configuration", scheduler)
    step = _start(ours, num_inference_steps)
    found = _judge(ours, step, num_inference_steps, sides)
    _require_finite(found)
    return found


def _sides(size: Any) -> tuple[int, int]:
    """Return height and width of latents.

    Raises:
        SingDiffusionError: they are no positive whole numbers, or absurdly large.
    """
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not whole or not all(1 <= side <= MOST_SIDE for side in sides):
        raise SingDiffusionError(
            f"latents must be positive: height and width within 1..{MOST_SIDE}, not {size!r:.40}", setting="latents"
        )
    return sides


def _require_finite(found: Audit) -> None:
    """Raise SingDiffusionError if a figure is not finite; only the gain may be, at pure noise."""
    for name in ("terminal_snr", "first_timestep", "alpha", "sigma", "d"):
        value = getattr(found, name)
        if not math.isfinite(value):
            raise SingDiffusionError(
                f"the schedule of this {found.scheduler} cannot be judged: {name} is {value}; its betas or sigmas are wrong"
            )


def _start(scheduler: Any, steps: int) -> FirstStep:
    """Return the first step of a scheduler, whose own timesteps stay as they are."""
    twin = copy.deepcopy(scheduler)
    more = {"mu": 1.0} if twin.config.get("use_dynamic_shifting") else {}  # it shifts later timesteps, not the first
    name, most = type(scheduler).__name__, twin.config.get("num_train_timesteps", MOST_TIMESTEPS)
    if isinstance(most, int) and steps > most:
        raise SingDiffusionError(
            f"{name} refuses {steps} steps: its schedule has {most} (num_train_timesteps)",
            setting="num_inference_steps",
        )
    with one_line_error(f"{name} refuses {steps} steps"):
        twin.set_timesteps(steps, **more)
        return first_step_of(twin)


def _terminal_snr(scheduler: Any) -> float:
    """Return alpha^2 / sigma^2 at the end of training's schedule."""
    config = scheduler.config
    if hasattr(scheduler, "alphas_cumprod"):
        bar = float(scheduler.alphas_cumprod[-1])
        # Euler and similar replace the 0 of a rescaled schedule by 2^-24
        return 0.0 if bar <= 2**-24 else bar / (1 - bar) if bar < 1 else math.inf
    if config.get("sigma_data") is not None and config.get("sigma_max") is not None:
        return 1 / config["sigma_max"] ** 2
    return 0.0  # flow matching


def _judge(scheduler: Any, step: FirstStep, steps: int, latents: tuple[int, int]) -> Audit:
    side = math.sqrt(latents[0] * latents[1])
    gain = step.sigma / step.alpha if step.alpha else math.inf
    d = step.alpha * side / step.sigma if step.sigma else math.inf
    verdict = PRESENT if d >= PRESENT_FROM else MILD if d >= MILD_FROM else ABSENT
    snr = _terminal_snr(scheduler)
    prediction = scheduler.config.get("prediction_type") or "flow"
    warnings = []
    at_noise = step.alpha <= 2**-12
    if snr == 0 and prediction == "epsilon" and at_noise:
        warnings.append(
            "epsilon prediction contains nothing of the picture at zero SNR: sampling divides by zero; "
            "such a model must predict v or the sample"
        )
    if snr == 0 and not at_noise and verdict != ABSENT:
        warnings.append(
            f"the schedule ends at zero SNR, but {scheduler.config.get('timestep_spacing', 'this')} spacing starts before it; "
            'set timestep_spacing="trailing"'
        )
    return Audit(
        scheduler=type(scheduler).__name__,
        num_inference_steps=steps,
        latents=latents,
        prediction_type=prediction,
        terminal_snr=snr,
        first_timestep=step.timestep,
        alpha=step.alpha,
        sigma=step.sigma,
        gain=gain,
        d=d,
        verdict=verdict,
        reason=_REASONS[verdict].format(d=f"{d:.2g}"),
        remedy=_REMEDIES[verdict] if not (warnings and verdict == ABSENT) else "see the warning.",
        warnings=tuple(warnings),
    )


_REASONS = {
    ABSENT: "sampling starts where training ended, at pure noise (d = {d})",
    MILD: "sampling starts at pure noise, training ended a little before: a channel's mean is off by {d} standard deviations "
    "of the noise, so very dark and very bright pictures lose some light",
    PRESENT: "sampling starts at pure noise, training ended well before: a channel's mean is off by {d} standard deviations "
    "of the noise, so pictures are pulled to average grey",
}
_REMEDIES = {
    ABSENT: "nothing.",
    MILD: "a SingDiffusion module for this latent space, or enable(pipe, color=...), has a small effect.",
    PRESENT: "enable a SingDiffusion module for this latent space, or enable(pipe, color=...); the model stays as it is.",
}


# -- reading a target -------------------------------------------------------------------------------------------------


def _read(target: Any) -> tuple[Any, Any]:
    """Return the scheduler, and the size of the latents where the target has it."""
    if isinstance(target, str | os.PathLike):
        return _read_files(target)
    if isinstance(target, Mapping):
        return scheduler_of(target, "the configuration"), None
    if hasattr(target, "scheduler"):
        denoiser = getattr(target, "unet", None) or getattr(target, "transformer", None)
        return target.scheduler, None if denoiser is None else denoiser.config.get("sample_size")
    if hasattr(target, "set_timesteps"):
        return target, None
    raise SingDiffusionError(
        f"a {type(target).__name__} cannot be audited; pass a pipeline, a scheduler, its configuration, or a model's name"
    )


def _read_files(name: str | os.PathLike) -> tuple[Any, Any]:
    from .. import tiny

    if str(name) in tiny.MODELS:
        return _read(tiny.load_pipeline(model=str(name)))
    path = Path(name)
    if path.is_file():
        return scheduler_of(read_json(path), path), None
    folder = folder_of(name, "the model", CONFIGURATIONS)
    file = folder / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        raise SingDiffusionError(f"{name} is not a diffusers model: it has no scheduler/scheduler_config.json")
    if (folder / "model_index.json").is_file():
        read_json(folder / "model_index.json")
    return scheduler_of(read_json(file), file), _size_in(folder)


def _size_in(folder: Path) -> Any:
    """Return the size of the latents in the denoiser's configuration in a model's folder, or None."""
    files = (folder / part / "config.json" for part in ("unet", "transformer", "prior"))
    file = next((each for each in files if each.is_file()), None)
    if file is None:
        return None
    size = read_json(file).get("sample_size")
    try:
        return None if size is None else _sides(size)
    except SingDiffusionError as error:
        raise SingDiffusionError(f"{file}: sample_size of the {error}") from error
