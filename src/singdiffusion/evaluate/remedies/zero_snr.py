"""Zero terminal SNR: the schedule is rescaled so that alpha_T = 0, where N(0, I) is the right start.

[ZT] is Lin, Liu, Li, Yang, "Common Diffusion Noise Schedules and Sample Steps are Flawed", WACV 2024, arXiv 2305.08891 (Algorithm 1).
There it is a way to train: the base learns the rescaled schedule and predicts v; sampling starts at the last timestep, with rescaled
guidance. A base that has not learnt the schedule receives timesteps that do not match its input. Its pictures show what the schedule alone
does, not what [ZT] can do.

An epsilon model cannot use it as published: at alpha = 0 its prediction contains nothing about the picture. diffusers' DDIM and DDPM
divide 0 by 0 and paint NaN. Its Euler, DPM++ and UniPC replace 0 by alpha = 2^-12, which multiplies every error of the first prediction by
4,096: with any of the three the embedded base paints black at a mean luma of 113 and white at 140. Users who only set
``rescale_betas_zero_snr`` get finite pictures, because ``leading`` spacing, the default of most models, starts before the last timestep.
That is ``spacing="leading"``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...plugin.first_step import first_step_of
from ...plugin.pipelines import untouched
from .rescheduled import PURE_NOISE, changed, lacks, same_course, scheduled, timed

GUIDANCE_RESCALE = 0.7  # [ZT] section 3.4


class ZeroSnr:
    """The rescaled schedule.

    Args:
        spacing: ``trailing``, as published, or ``leading``, which starts before the last timestep.
        guidance_rescale: how much of the contrast that guidance adds is removed ([ZT] equation 16); 0: none.
    """

    def __init__(self, spacing: str = "trailing", guidance_rescale: float = 0.0):
        self.spacing, self.guidance_rescale = spacing, guidance_rescale

    @property
    def name(self) -> str:
        leading = "-leading" if self.spacing == "leading" else ""
        return f"zero-snr{leading}" + ("-guidance-rescale" if self.guidance_rescale else "")

    @property
    def title(self) -> str:
        leading = ", leading timesteps" if self.spacing == "leading" else ""
        return f"zero terminal SNR{leading}" + (
            f", guidance rescale {self.guidance_rescale:g}" if self.guidance_rescale else ""
        )

    @property
    def needs(self) -> str:
        return "nothing, but meant for a base retrained" if self.spacing == "leading" else "the base, retrained"

    @property
    def _changes(self) -> dict[str, Any]:
        return {"rescale_betas_zero_snr": True, "timestep_spacing": self.spacing}

    def unfit(self, pipe: Any) -> str | None:
        scheduler, kind = pipe.scheduler, type(pipe.scheduler).__name__
        reason = untouched(pipe) or lacks(scheduler, *self._changes)
        if reason is not None:
            return reason
        if self.guidance_rescale and "guidance_rescale" not in inspect.signature(pipe.__call__).parameters:
            return f"{type(pipe).__name__} takes no guidance_rescale"
        twin = timed(changed(scheduler, **self._changes))
        if first_step_of(twin).alpha > PURE_NOISE:
            return None if self.spacing == "leading" else f"its {kind} does not start at the last timestep"
        if scheduler.config.get("prediction_type") == "epsilon":
            return "it predicts epsilon, which is undefined at zero SNR (0 / 0): a base trained to predict v is needed"
        if not self.guidance_rescale and same_course(timed(scheduler), twin):
            return "its scheduler does so already"
        return None

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": "zero-snr", "spacing": self.spacing, "guidance_rescale": self.guidance_rescale}

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[dict[str, Any]]:
        with scheduled(pipe, **self._changes):
            yield {"guidance_rescale": self.guidance_rescale} if self.guidance_rescale else {}

    def networks(self) -> list[Any]:
        return []
