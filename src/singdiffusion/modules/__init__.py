"""Networks that predict E[x_0 | prompt], and ``SingModule``, which bundles a network with its configuration and text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import SingConfig
from .decoder import MeanDecoder
from .sing_module import METHODS, SingModule

if TYPE_CHECKING:
    from .unet import TimeFreeUNet

__all__ = ["METHODS", "MeanDecoder", "SingConfig", "SingModule", "TimeFreeUNet"]


def __getattr__(name: str) -> Any:
    """Import the U-Net when it is first used: it needs diffusers, which a decoder does not."""
    if name == "TimeFreeUNet":
        from .unet import TimeFreeUNet

        return TimeFreeUNet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
