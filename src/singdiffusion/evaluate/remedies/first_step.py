"""SingDiffusion's first step, by any module: the paper's mean, or our moments ([SD] section 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from ...errors import SingDiffusionError
from ...plugin import SingDiffusion
from ...plugin.pipelines import untouched
from ..gallery import weights_digest
from ..prompts import slug


class FirstStep:
    """A module's first step.

    Args:
        module: ``tiny``, another embedded module, a folder or a hub id.
        method: ``mean`` or ``moments``; the module's best by default.

    Raises:
        SingDiffusionError: there is no such module, or it cannot do this.
    """

    needs = "a module for the latent space"

    def __init__(self, module: str = "tiny", method: str | None = None):
        self.module = module
        self.sing = SingDiffusion.from_pretrained(module)
        self.method = method or self.sing.method

    @property
    def name(self) -> str:
        return f"{slug(self.module, 80)}-{self.method}"

    @property
    def title(self) -> str:
        return f"SingDiffusion, {self.module} ({self.method})"

    def unfit(self, pipe: Any) -> str | None:
        reason = untouched(pipe)
        if reason is not None:
            return reason
        try:
            with self.applied(pipe):
                return None
        except SingDiffusionError as error:
            return str(error)

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": "singdiffusion", "method": self.method, "weights": self._digest}

    @cached_property
    def _digest(self) -> str:
        return weights_digest({"module": self.sing.module})

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[dict[str, Any]]:
        self.sing.enable(pipe, method=self.method)
        try:
            yield {}
        finally:
            self.sing.disable()

    def networks(self) -> list[Any]:
        return [self.sing.module] + ([self.sing.text_encoder] if self.sing.text_encoder is not None else [])
