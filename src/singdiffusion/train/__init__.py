"""From shards of latents to a module: configuration, losses, the loop, exact resume, validation."""

from .config import Config, load_config, preset_names
from .loop import train

__all__ = ["Config", "load_config", "preset_names", "train"]
