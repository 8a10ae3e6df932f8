"""SingDiffusion's first step, by any module: the paper's mean, or our moments ([SD] section 4)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from ...plugin import SingDiffusion
from ..gallery import weights_digest
from ..prompts import slug
from .plugged import plugged, refusal


class FirstStep:
    """A module's first step.

    Args:
        module: ``tiny``, another embedded module, a folder or a hub id.
        method: ``mean`` or ``moments``; the module's best by default.
        sing: the module, where it is loaded already.

    Raises:
        SingDiffusionError: there is no such module, or it cannot do this.
    """

    needs = "a module for the latent space"

    def __init__(self, module: str = "tiny", method: str | None = None, sing: SingDiffusion | None = None):
        self.module = module
        self.sing = sing or SingDiffusion.from_pretrained(module)
        self.method = method or self.sing.method

    @property
    def name(self) -> str:
        return f"{slug(self.module, 80)}-{self.method}"

    @property
    def title(self) -> str:
        return f"SingDiffusion, {self.module} ({self.method})"

    def unfit(self, pipe: Any) -> str | None:
        return refusal(pipe, self.applied(pipe))

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": "singdiffusion", "method": self.method, "weights": self._digest}

    @cached_property
    def _digest(self) -> str:
        return weights_digest({"module": self.sing.module})

    def applied(self, pipe: Any) -> AbstractContextManager[dict[str, Any]]:
        return plugged(self.sing, pipe, method=self.method)

    def networks(self) -> list[Any]:
        return [self.sing.module] + ([self.sing.text_encoder] if self.sing.text_encoder is not None else [])
