"""What the user chose for the first step alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import SingDiffusionError
from .color import Color, parse_color


@dataclass(frozen=True)
class Steering:
    """Options of the first step that replace the pipeline's own.

    Attributes:
        method: ``mean`` or ``moments``; None: by the module.
        prompt: in place of the pipeline's prompt; None: the pipeline's.
        negative_prompt: goes with ``prompt``.
        guidance_scale: None: the module's, or else the pipeline's.
        color: flat color that takes the place of the module's prediction.
    """

    method: str | None = None
    prompt: str | None = None
    negative_prompt: str = ""
    guidance_scale: float | None = None
    color: Color | None = None

    @classmethod
    def checked(
        cls, method: str | None, prompt: Any, negative_prompt: Any, guidance_scale: Any, color: Any
    ) -> Steering:
        """Return the options as ``SingDiffusion.enable`` takes them.

        Raises:
            SingDiffusionError: an option has the wrong type or value, or two exclude each other.
        """
        if color is not None and not (prompt is None and negative_prompt is None and guidance_scale is None):
            raise SingDiffusionError("pass a color or a prompt for the first step, not both")
        if color is not None and method == "moments":
            raise SingDiffusionError("a flat color has no variance: leave out method='moments'")
        if prompt is None and negative_prompt is not None:
            raise SingDiffusionError("a negative_prompt for the first step needs a prompt for it")
        for name, value in (("prompt", prompt), ("negative_prompt", negative_prompt)):
            if value is not None and not isinstance(value, str):
                raise SingDiffusionError(
                    f"{name} for the first step must be one text for all pictures, not a {type(value).__name__}"
                )
        if guidance_scale is not None and not (
            isinstance(guidance_scale, int | float) and math.isfinite(guidance_scale)
        ):
            raise SingDiffusionError(
                f"guidance_scale must be a finite number, not {guidance_scale}", setting="first_step.guidance_scale"
            )
        parsed = None if color is None else parse_color(color)
        return cls(method, prompt, negative_prompt or "", guidance_scale, parsed)
