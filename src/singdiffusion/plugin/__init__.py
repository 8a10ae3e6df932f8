"""The plug-in for diffusers pipelines."""

from .audit import Audit, audit
from .config import SingConfig
from .sing import SingDiffusion
from .text import fingerprint

__all__ = ["Audit", "SingConfig", "SingDiffusion", "audit", "fingerprint"]
