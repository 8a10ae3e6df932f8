"""Check the configurations of a base model before diffusers and transformers read them, whose errors name neither file nor key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers

from ..memory import require_memory
from ..modules.limits import require_sizes
from ..plugin.scheduler_config import require_scheduler
from ..reading import read_json


def require_configs(folder: Path, components: Iterable[str]) -> None:
    """Check every JSON file of a model's components.

    Args:
        folder: of the model, in diffusers' layout.
        components: names of its parts, which are also their folders; those without a folder are passed over.

    Raises:
        SingDiffusionError: a file cannot be read, or a value in it is wrong.
    """
    for name in components:
        for file in sorted((folder / name).glob("*.json")):
            if file.name == "tokenizer.json":  # up to 30 MiB, and read by tokenizers alone, which name what is wrong
                continue
            content = read_json(file)
            if file.name == "scheduler_config.json":
                kind = getattr(diffusers, str(content.get("_class_name")), None)
                if isinstance(kind, type):
                    require_scheduler(kind, content, file)
            elif file.name == "config.json":
                require_sizes(content, file)
                _require_positions(content, file)


def _require_positions(config: Mapping[str, Any], file: Path) -> None:
    """Check that the table of positions of a transformer, which is computed and not read, fits into the memory."""
    side = config.get("pos_embed_max_size") or config.get("sample_size")
    heads, width, patch = (config.get(key) for key in ("num_attention_heads", "attention_head_dim", "patch_size"))
    if all(isinstance(each, int) and each for each in (side, heads, width, patch)):
        needed = (side / (1 if "pos_embed_max_size" in config else patch)) ** 2 * heads * width * 8  # of float64
        require_memory(needed, f"{file}: the table of positions for a side of {side}")
