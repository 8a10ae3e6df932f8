"""``load_module``: an embedded module, one in a folder, or one on the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from .. import tiny
from ..errors import SingDiffusionError
from ..modules import SingModule
from ..modules.layout import CONFIG
from .hub import download


def load_module(
    source: str | os.PathLike,
    *,
    torch_dtype: torch.dtype | None = None,
    device: Any = None,
    text_encoder: bool = True,
    **hub: Any,
) -> SingModule:
    """Load a module from this machine or from the hub.

    Args:
        source: ``"tiny"`` (embedded; or another of ``tiny.MODULES``), a folder that ``save_pretrained`` wrote, or a hub id.
        torch_dtype: of its weights; float32 by default.
        device: to move it to.
        text_encoder: whether to load the module's own text encoder.
        hub: ``subfolder`` of the folder or repository; ``revision``, ``cache_dir``, ``local_files_only`` and ``token``, as for
            ``huggingface_hub.snapshot_download``.

    Raises:
        SingDiffusionError: the module is not found, or its files are damaged.
    """
    place = str(source) if str(source) in tiny.MODULES else module_folder(source, **hub)
    return SingModule.from_pretrained(place, torch_dtype=torch_dtype, device=device, text_encoder=text_encoder)


def module_folder(source: str | os.PathLike, subfolder: str = "", **hub: Any) -> Path:
    """Return the local folder of a module, which is downloaded from the hub if it is not in the cache.

    Args:
        source: a folder, or a hub id.
        subfolder: folder of the module in that folder or repository.
        hub: as for ``load_module``.

    Raises:
        SingDiffusionError: ``source`` is a file, or is found neither on this machine nor on the hub.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder / subfolder
    if folder.exists():
        raise SingDiffusionError(f"{source} is a file; a SingDiffusion module is a folder with {CONFIG}")
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    patterns = [prefix + name for name in (CONFIG, "module/*", "tokenizer/*", "text_encoder/*")]
    return download(str(source), patterns, "folder", **hub) / subfolder
