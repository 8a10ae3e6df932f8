"""Diffusion models cannot paint a dark room or a white page because they start from the wrong noise.

singdiffusion fixes the first step of any diffusers pipeline, leaves the model untouched, and costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.schedule import Schedule
    from .errors import SingDiffusionError
    from .modules import MeanDecoder, SingConfig, SingModule, TimeFreeUNet
    from .plugin import Audit, SingDiffusion, audit

__version__ = "0.1.0"

__all__ = [
    "Audit",
    "MeanDecoder",
    "Schedule",
    "SingConfig",
    "SingDiffusion",
    "SingDiffusionError",
    "SingModule",
    "TimeFreeUNet",
    "__version__",
    "audit",
]

_HOMES = {
    "Audit": ".plugin",
    "MeanDecoder": ".modules",
    "Schedule": ".core.schedule",
    "SingConfig": ".modules",
    "SingDiffusion": ".plugin",
    "SingDiffusionError": ".errors",
    "SingModule": ".modules",
    "TimeFreeUNet": ".modules",
    "audit": ".plugin",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `import singdiffusion` does not wait for torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
