"""SingDiffusion's first step by any module: the paper's mean, or our moments."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from ...modules import SingModule
from ...painting.prompts import slug
from ...plugin import SingDiffusion
from ...published import load_module
from ..digests import weights_digest
from .plugged import Plugged, plugged


class FirstStep(Plugged):
    """A module's first step.

    Args:
        source: ``tiny``, another embedded module, a folder or a hub id.
        method: ``mean`` or ``moments``; by default ``moments`` where the module predicts the covariance.
        module: the module of that source, if it is loaded already.

    Raises:
        SingDiffusionError: the module is not found, or cannot use this method.
    """

    needs = "a module for the latent space"

    def __init__(self, source: str = "tiny", method: str | None = None, module: SingModule | None = None):
        self.source = source
        self.module = module or load_module(source)
        self.method = self.module.choose_method(method)

    @property
    def name(self) -> str:
        return f"{slug(self.source, 80)}-{self.method}"

    @property
    def title(self) -> str:
        return f"SingDiffusion, {self.source} ({self.method})"

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": "singdiffusion", "method": self.method, "weights": self._digest}

    @cached_property
    def _digest(self) -> str:
        return weights_digest({"module": self.module.network})

    def applied(self, pipe: Any) -> AbstractContextManager[dict[str, Any]]:
        return plugged(SingDiffusion(self.module), pipe, method=self.method)

    def networks(self) -> list[Any]:
        return [self.module.network, *(self.module.text.text_encoders if self.module.text else [])]
