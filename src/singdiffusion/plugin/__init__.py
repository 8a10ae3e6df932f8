"""The plug-in for diffusers pipelines."""

from .config import SingConfig
from .sing import SingDiffusion
from .text import fingerprint

__all__ = ["SingConfig", "SingDiffusion", "fingerprint"]
