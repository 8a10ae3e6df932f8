"""The plug-in for diffusers pipelines."""

from .audit import Audit, audit
from .sing import SingDiffusion

__all__ = ["Audit", "SingDiffusion", "audit"]
