"""Train a module on shards of latents: configuration, losses, the loop, resuming, validation."""

from .config import Config, load_config, preset_names
from .loop import train

__all__ = ["Config", "load_config", "preset_names", "train"]
