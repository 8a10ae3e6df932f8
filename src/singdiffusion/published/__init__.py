"""Modules as they are published: by name, on the hub, in the layouts of others."""

from .load import load_module

__all__ = ["load_module"]
