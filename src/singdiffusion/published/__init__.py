"""Published modules: recognised in any layout, loaded from this machine or the hub, converted, and chosen for a pipeline."""

from __future__ import annotations

from .load import load_module
from .push import push_to_hub

__all__ = ["load_module", "push_to_hub"]
