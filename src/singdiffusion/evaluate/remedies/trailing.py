"""Trailing spacing: sampling starts at the last timestep of training, so that the least signal is lost.

Source: Lin, Liu, Li, Yang, "Common Diffusion Noise Schedules and Sample Steps are Flawed", WACV 2024, arXiv 2305.08891, section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...plugin.pipelines import untouched
from .rescheduled import changed, lacks, same_course, scheduled, timed

_SPACING = {"timestep_spacing": "trailing"}


class Trailing:
    """N(0, I) at the last timestep of training, where alpha is smallest but not 0."""

    name, title, needs = "trailing", "trailing timesteps", "nothing"

    def unfit(self, pipe: Any) -> str | None:
        scheduler = pipe.scheduler
        reason = untouched(pipe) or lacks(scheduler, *_SPACING)
        if reason is None and same_course(timed(scheduler), timed(changed(scheduler, **_SPACING))):
            return f"its {type(scheduler).__name__} takes the same timesteps without it"
        return reason

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": self.name}

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[dict[str, Any]]:
        with scheduled(pipe, **_SPACING):
            yield {}

    def networks(self) -> list[Any]:
        return []
