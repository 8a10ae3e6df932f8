"""Remedies for the wrong start, each a small file behind one protocol."""

from .first_step import FirstStep
from .off import Off
from .protocol import Remedy

__all__ = ["FirstStep", "Off", "Remedy"]
