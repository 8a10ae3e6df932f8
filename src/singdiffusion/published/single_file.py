"""Single files in the original key layout of Stable Diffusion's code: read and written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import SingDiffusionError
from ..files import require_writable, share
from ..modules import SingConfig, SingModule, layout
from ..modules.config import network_options
from ..modules.unet import TimeFreeUNet
from ..modules.weights import read_weights
from ..reading import parse_json
from ..staging import staged
from .base import SD_LATENTS, Base
from .keys import PREFIX, original_name
from .layouts import config_of

# U-Nets of files without a configuration, by the width of their text; other options have diffusers' defaults.
_UNETS = {
    768: {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    1024: {
        "sample_size": 64,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
}


def read(
    file: Path, base: Base | None, unet: dict[str, Any] | None, torch_dtype: torch.dtype | None
) -> tuple[Any, SingConfig]:
    """Return the network in a file and its configuration. ``write`` puts both configurations into the file's metadata.

    Args:
        file: a ``.safetensors`` file.
        base: the model whose latent space it has, for a file without a configuration; by default Stable Diffusion 1.
        unet: configuration of its U-Net, for a file without one.
        torch_dtype: of the network; None: that of the weights.

    Raises:
        SingDiffusionError: the file is of another kind, damaged or incomplete, or a configuration is missing or wrong.
    """
    if file.suffix != ".safetensors":
        raise SingDiffusionError(f"{file} is not a .safetensors file; a .bin is read in a folder with its config.json")
    weights = read_weights(file, keep=lambda key: True)
    inner = {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)} or weights
    metadata = _metadata(file)
    where = f"the metadata of {file}"
    if unet is None and "unet_config" in metadata:
        unet = parse_json(metadata["unet_config"], where)
    if not isinstance(unet, dict):
        unet = _unet_of(inner, file)
    stored = parse_json(metadata["sing_config"], where, SingConfig) if "sing_config" in metadata else None
    diffusers_names = {original_name(name, unet): name for name in TimeFreeUNet.empty(unet, file).state_dict()}
    renamed = {diffusers_names.get(key, key): value for key, value in inner.items()}
    network = layout.build_network(unet, renamed, file, torch_dtype)
    if stored is not None and base is None:
        return network, stored
    return network, config_of(unet, SD_LATENTS if base is None else base.latents(), file)


def _unet_of(weights: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """Return the configuration of a U-Net of Stable Diffusion's size, identified by the width of its text."""
    keys = (key for key in weights if key.endswith("attn2.to_k.weight"))
    width = next((weights[key].shape[1] for key in keys), None)
    if width not in _UNETS:
        raise SingDiffusionError(
            f"{file} has no configuration of its U-Net, and is not of SD-1.x or SD-2.x size; pass its config.json",
            setting="unet_config",
        )
    return dict(_UNETS[width])


def require_ours(target: Path) -> None:
    """Check that a module may be written as a single file: the file is missing, or an older module, and can be written.

    Raises:
        SingDiffusionError: it is something else, there is no such folder, or it cannot be written.
    """
    require_writable(target)
    if not target.absolute().parent.is_dir():
        raise SingDiffusionError(f"cannot write {target}: there is no folder {target.absolute().parent}")
    if os.path.lexists(target) and "sing_config" not in _metadata(target):
        raise SingDiffusionError(f"{target} exists and is not a module's single file; choose another name")


def _metadata(file: Path) -> dict[str, str]:
    """Return the metadata of a ``.safetensors`` file, {} where it is something else."""
    if file.is_file():  # a pipe would be waited for
        with suppress(SafetensorError, OSError), safe_open(file, "pt") as opened:
            return opened.metadata() or {}
    return {}


def write(target: Path, module: SingModule) -> None:
    """Write a module's U-Net as a single file, with both configurations in its metadata; whole, or not at all.

    Raises:
        SingDiffusionError: the network is no U-Net, the module has text encoders of its own, or the file cannot be written.
    """
    if module.kind != "unet":
        raise SingDiffusionError(
            f"a single file holds a U-Net, and this module is a {type(module.network).__name__}; write a folder"
        )
    if module.text is not None:
        raise SingDiffusionError(
            "a single file holds no text encoder; write a folder, or leave the text encoder out", "no_text"
        )
    require_ours(target)
    unet = network_options(module.network.config)
    weights = {PREFIX + original_name(key, unet): value for key, value in module.network.state_dict().items()}
    metadata = {"format": "pt", "sing_config": module.config.model_dump_json(), "unet_config": json.dumps(unet)}
    with staged(target) as new:
        save_file(weights, new, metadata)
        share(new)
