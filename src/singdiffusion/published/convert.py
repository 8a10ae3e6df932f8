"""``convert``: a published module becomes a folder in our layout or a single file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from .. import tiny
from ..errors import SingDiffusionError
from ..modules import SingConfig, SingModule, layout
from ..reading import read_json
from .load import HALF, build, find, load_single_file


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    base: str | os.PathLike | None = None,
    bring_text: bool | None = None,
    unet_config: str | os.PathLike | None = None,
    torch_dtype: torch.dtype | None = None,
    **hub: Any,
) -> SingConfig:
    """Write a published module as a folder in our layout, or as a single file.

    Args:
        source: what ``load_module`` reads: a folder or hub id of any layout, or a ``.safetensors`` file.
        target: a folder; or a name that ends in ``.safetensors``, for one file in the original key layout.
        base: folder or hub id of the model whose latents and text encoder the module was trained with; as for ``load_module``.
        bring_text: whether to write the text encoders into the module, for bases that have others. By default those that are the
            module's own (ours with one, OneMoreStep's); of a base's only the fingerprint is kept. With False a module without a
            base counts any text encoder of its width as its own.
        unet_config: ``config.json`` of the U-Net, for a single file that has none and is not of SD-1.x or SD-2.x size.
        torch_dtype: of the weights written; by default that of the source.
        hub: as for ``load_module``.

    Returns:
        The configuration of the module.

    Raises:
        SingDiffusionError: the source has none of these layouts, or is damaged or incomplete; or the target cannot be written.
    """
    target = _free_target(target)
    module, own = _load(source, base, bring_text, unet_config, torch_dtype, hub)
    if bring_text and module.text is None:
        raise SingDiffusionError("to bring a text encoder, pass the base that has it", setting="base")
    if bring_text is False or (bring_text is None and not own):
        module.text = None
    if target.suffix == ".safetensors":
        from . import single_file

        single_file.write(target, module)
    else:
        module.save_pretrained(target)
    return module.config


def _free_target(target: str | os.PathLike) -> Path:
    """Return where to write. It is checked before the source is read or downloaded.

    Raises:
        SingDiffusionError: something that is not ours is there, or it cannot be written.
    """
    if not str(target).strip():
        raise SingDiffusionError("the target has an empty name; it is a folder, or a file that ends in .safetensors")
    path = Path(target)
    if path.suffix == ".safetensors":
        from . import single_file

        single_file.require_ours(path)
    else:
        layout.require_ours(path)
    return path


def _load(
    source: str | os.PathLike,
    base: Any,
    bring_text: bool | None,
    unet_config: Any,
    torch_dtype: Any,
    hub: dict[str, Any],
) -> tuple[SingModule, bool]:
    """Return a module in the dtype of its weights, and whether its text encoders are its own."""
    file = Path(source)
    if file.is_file():
        unet = None if unet_config is None else read_json(Path(unet_config))
        return load_single_file(file, base, unet, torch_dtype, **hub), False
    if str(source) in tiny.MODULES and not file.is_dir():
        source = tiny.module_folder(str(source))
    if unet_config is not None:
        raise SingDiffusionError(
            f"{source} has a configuration of its U-Net; unet_config is for a single file without one"
        )
    found = find(source, base=base, half=torch_dtype in HALF, **hub)
    needs_text = base is not None or bring_text is not False
    return build(found, torch_dtype, text_encoder=needs_text), found.brings_text
