"""Published modules: loaded by name or from the hub, and converted from the layouts of others."""

from .load import load_module

__all__ = ["load_module"]
