"""Layouts in which others publish modules: SingDiffusion's authors, OneMoreStep, single files.

Every layout holds the same network, a U-Net without time. All weights must be present, of the right shape and finite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import SingDiffusionError, one_line_error
from ..files import read_json
from ..modules import SingConfig, layout
from ..modules.unet import TimeFreeUNet
from ..modules.weights import read_weights, require_finite
from .keys import PREFIX, original_name

SD_SCALING = 0.18215  # of the VAE of Stable Diffusion 1.x and 2.x

# U-Nets of single files without a configuration, by the width of their text; other options have diffusers' defaults.
_UNETS = {
    768: {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    1024: {
        "sample_size": 64,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
}


@dataclass(frozen=True)
class Published:
    """A published module as it was read.

    Attributes:
        unet: configuration of its U-Net.
        weights: by diffusers' names.
        config: as the layout gives it; what the layout leaves open has the values of Stable Diffusion 1.5.
        source: file or folder, for messages.
    """

    unet: dict[str, Any]
    weights: dict[str, Tensor]
    config: SingConfig
    source: Path


def read(source: Path, unet: dict[str, Any] | None = None) -> Published:
    """Return the module in a folder or file of any known layout.

    Args:
        source: a folder or a ``.safetensors`` file.
        unet: configuration of the U-Net, for a single file without one.

    Raises:
        SingDiffusionError: the file or folder is missing, its layout is unknown, or it is damaged.
    """
    if source.is_file():
        if source.suffix != ".safetensors":
            raise SingDiffusionError(
                f"{source} is not a .safetensors file; a .bin is read in a folder with its config.json"
            )
        return _read_single(source, unet)
    if not source.is_dir():
        raise SingDiffusionError(f"there is no file or folder {source}")
    if (source / layout.CONFIG).is_file():
        return _read_folder(source / "module", layout.read_config(source))
    if (source / "oms_module").is_dir():
        # OneMoreStep predicts v = alpha noise - sigma x_0, which is -x_0 at t = 1, and does not normalise its guidance
        changes = {"prediction": "v_prediction", "normalise_guidance": False, "guidance_scale": 1.0}
        return _read_folder(source / "oms_module", None, **changes)
    if (source / "config.json").is_file():
        return _read_folder(source, None)
    raise SingDiffusionError(
        f"{source} is not a module: it has neither config.json (SingDiffusion's authors), nor oms_module/ (OneMoreStep), "
        f"nor {layout.CONFIG} (ours)"
    )


def _read_folder(folder: Path, config: SingConfig | None, **changes: Any) -> Published:
    """Return the module in a folder with ``config.json`` and weights.

    Args:
        folder: in diffusers' layout.
        config: how the module is used; None: as the authors' module is, with ``changes``.
    """
    unet = read_json(folder / "config.json")
    return Published(unet, read_weights(folder), config or _config_of(unet, folder, **changes), folder)


def _read_single(file: Path, unet: dict[str, Any] | None) -> Published:
    """Return the module in a file in the original key layout; ``convert`` writes both configurations into its metadata."""
    weights = read_weights(file)
    inner = {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)} or weights
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata() or {}
    where = f"the metadata of {file}"
    if unet is None and "unet_config" in metadata:
        with one_line_error(f"{where} cannot be read"):
            unet = json.loads(metadata["unet_config"])
    if not isinstance(unet, dict):
        unet = _unet_of(inner, file)
    config = layout.parse_config(metadata["sing_config"], where) if "sing_config" in metadata else None
    diffusers_names = {original_name(name, unet): name for name in TimeFreeUNet.empty(unet, file).state_dict()}
    renamed = {diffusers_names.get(key, key): value for key, value in inner.items()}
    return Published(unet, renamed, config or _config_of(unet, file), file)


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


def _config_of(unet: Mapping[str, Any], where: Any, **changes: Any) -> SingConfig:
    """Return the configuration of a module of this U-Net for Stable Diffusion's latents, with changes."""
    width, size = unet.get("cross_attention_dim"), unet.get("sample_size")
    if not isinstance(width, int):
        raise SingDiffusionError(f"the configuration in {where} lacks cross_attention_dim, the width of the text")
    return SingConfig(
        latent_channels=unet.get("in_channels", 4),
        vae_scaling_factor=SD_SCALING,
        text_width=width,
        sample_size=size if isinstance(size, int) else None,
        **changes,
    )


def assemble(found: Published, torch_dtype: torch.dtype | None = None) -> TimeFreeUNet:
    """Return the network with its weights, which are copied only where their dtype changes.

    Args:
        found: as ``read`` returned it.
        torch_dtype: of the weights; by default their own.

    Raises:
        SingDiffusionError: the network is a denoiser, or a weight is missing, unexpected, of another shape or not finite.
    """
    network = TimeFreeUNet.empty(found.unet, found.source)
    network.take_weights(found.weights, found.source)
    network = network if torch_dtype is None else network.to(torch_dtype)
    require_finite(network, found.source)
    return network.eval()
