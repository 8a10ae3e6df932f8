"""Check the configurations of a base model before diffusers and transformers read them, whose errors name neither file nor key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError, safe_open

from ..memory import require_memory
from ..modules.limits import require_sizes, require_types
from ..published.schedulers import require_scheduler
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
            kind = getattr(diffusers, str(content.get("_class_name")), None)
            if file.name == "scheduler_config.json" and isinstance(kind, type):
                require_scheduler(kind, content, file)
            elif file.name == "config.json":
                require_sizes(content, file)
                _require_positions(content, file)
                if isinstance(kind, type):
                    require_types(kind, content, file)


def _require_positions(config: Mapping[str, Any], file: Path) -> None:
    """Check that the table of positions of a transformer, which is computed and not read, fits into the memory."""
    side = config.get("pos_embed_max_size") or config.get("sample_size")
    heads, width, patch = (config.get(key) for key in ("num_attention_heads", "attention_head_dim", "patch_size"))
    if isinstance(side, int) and isinstance(heads, int) and isinstance(width, int) and isinstance(patch, int):
        rows = side if "pos_embed_max_size" in config else side / patch
        require_memory(rows**2 * heads * width * 8, f"{file}: the table of positions for a side of {side}")  # float64


def require_room_for_weights(folder: Path, components: Iterable[str], dtype: torch.dtype) -> None:
    """Check that the memory suffices for the weights whose dtype changes; the others may stay in their files, mapped.

    Args:
        folder: of a model on this machine.
        components: names of its parts.
        dtype: of the pipeline.

    Raises:
        SingDiffusionError: it does not suffice.
    """
    needed = 0
    for name in components:
        inside = [file.name for file in (folder / name).glob("*.safetensors")]
        for stem in {"model", "diffusion_pytorch_model"}:
            if f"{stem}.safetensors" in inside:
                needed += _numbers_to_cast(folder / name / f"{stem}.safetensors", dtype) * dtype.itemsize
    require_memory(needed, f"the model {folder} as {str(dtype).removeprefix('torch.')}", "torch_dtype")


def _numbers_to_cast(file: Path, dtype: torch.dtype) -> int:
    """Return how many numbers of a file have another dtype, from its header; 0 for a damaged one, which fails when it is read."""
    count = 0
    with suppress(SafetensorError, OSError), safe_open(file, "pt") as opened:
        for key in opened.keys():  # noqa: SIM118  (it is no dict)
            part = opened.get_slice(key)
            count += 0 if part.get_dtype() == _NAMES.get(dtype) else math.prod(part.get_shape())
    return count


_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}  # in safetensors
