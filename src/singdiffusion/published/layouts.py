"""Modules as others publish them: SingDiffusion's authors, OneMoreStep, single files.

Every layout holds the same network, a U-Net without time. All weights must be there, of the right shape and finite.
No code in a file runs: pickles are read with ``weights_only``.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import SingDiffusionError, one_line, one_line_error, validation_line
from ..files import read_json
from ..modules import SingConfig, layout
from ..modules.unet import TimeFreeUNet
from .keys import PREFIX, original_name

WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
SD_SCALING = 0.18215  # of the VAE of Stable Diffusion 1.x and 2.x

# U-Nets of single files without a configuration, by the width of their text (the rest are diffusers' defaults).
_KNOWN = {
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
    """A module as it was found.

    Attributes:
        unet: configuration of its U-Net.
        weights: by name, in diffusers' layout.
        config: how it is used, as far as the layout holds it; ``text_width`` and ``latent_channels`` are the U-Net's.
        source: for messages.
    """

    unet: dict[str, Any]
    weights: dict[str, Tensor]
    config: SingConfig
    source: Path


def read(source: Path, unet: dict[str, Any] | None = None) -> Published:
    """Return the module in a folder or file, whichever layout it has.

    Args:
        source: a folder or a ``.safetensors`` file.
        unet: configuration of the U-Net, for a single file without one.

    Raises:
        SingDiffusionError: there is no such file or folder, its layout is unknown, or it is damaged.
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
        # it predicts v = alpha noise - sigma x_0, which is -x_0 at t = 1; its guidance is not normalised
        more = {"prediction": "v_prediction", "normalise_guidance": False, "guidance_scale": 1.0}
        return _read_folder(source / "oms_module", None, **more)
    if (source / "config.json").is_file():
        return _read_folder(source, None)
    raise SingDiffusionError(
        f"{source} is not a module: it has neither config.json (SingDiffusion's authors), nor oms_module/ (OneMoreStep), "
        f"nor {layout.CONFIG} (ours)"
    )


def _read_folder(folder: Path, config: SingConfig | None, **more: Any) -> Published:
    unet = read_json(folder / "config.json")
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise SingDiffusionError(f"{folder} has no weights: one of {', '.join(WEIGHTS)}")
    return Published(unet, _weights(file), config or _config_of(unet, folder, **more), folder)


def _read_single(file: Path, unet: dict[str, Any] | None) -> Published:
    weights = _weights(file)
    inside = {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)} or weights
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata() or {}
    try:
        unet = unet or json.loads(metadata.get("unet_config", "null"))
        config = SingConfig.model_validate_json(metadata["sing_config"]) if "sing_config" in metadata else None
    except ValidationError as error:
        raise SingDiffusionError(f"the metadata of {file} is damaged: {validation_line(error)}") from error
    except ValueError as error:
        raise SingDiffusionError(f"the metadata of {file} is damaged: {one_line(error)}") from error
    if unet is None:
        unet = _guess(inside, file)
    names = {original_name(name, unet): name for name in _skeleton(unet, file).state_dict()}
    renamed = {names.get(key, key): value for key, value in inside.items()}
    return Published(unet, renamed, config or _config_of(unet, file), file)


def _guess(weights: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """Return the U-Net's configuration, found by the width of its text."""
    keys = (key for key in weights if key.endswith("attn2.to_k.weight"))
    width = next((weights[key].shape[1] for key in keys), None)
    if width not in _KNOWN:
        raise SingDiffusionError(
            f"{file} has no configuration of its U-Net, and is not of SD-1.x or SD-2.x size; pass its config.json"
        )
    return dict(_KNOWN[width])


def _weights(file: Path) -> dict[str, Tensor]:
    """Return all tensors of a file, mapped from disk where the format allows."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (it is no dict)
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except pickle.UnpicklingError as error:
        raise SingDiffusionError(
            f"{file} holds more than weights, or is damaged; it is not read because it could run code"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise SingDiffusionError(
            f"the weights in {file} cannot be read (missing or damaged): {one_line(error)}"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise SingDiffusionError(f"{file} holds no table of weights")
    return loaded


def _is_zip(file: Path) -> bool:
    """Return whether a file can be mapped; files of torch before 1.6 are no zip archives and cannot."""
    with file.open("rb") as opened:
        return opened.read(2) == b"PK"


def _config_of(unet: Mapping[str, Any], where: Any, **more: Any) -> SingConfig:
    width, size = unet.get("cross_attention_dim"), unet.get("sample_size")
    if not isinstance(width, int):
        raise SingDiffusionError(f"the configuration in {where} lacks cross_attention_dim, the width of the text")
    return SingConfig(
        latent_channels=unet.get("in_channels", 4),
        vae_scaling_factor=SD_SCALING,
        text_width=width,
        sample_size=size if isinstance(size, int) else None,
        **more,
    )


def _skeleton(unet: Mapping[str, Any], where: Any) -> TimeFreeUNet:
    """Return the network without weights, on the meta device."""
    options = {key: value for key, value in unet.items() if not key.startswith("_")}
    with one_line_error(f"the configuration in {where} makes no U-Net"), torch.device("meta"):
        return TimeFreeUNet.from_config(options)  # type: ignore[return-value]


def assemble(found: Published, dtype: torch.dtype | None = None) -> TimeFreeUNet:
    """Return the network with its weights; a weight is copied only where its dtype changes.

    Args:
        found: what ``read`` returned.
        dtype: of the weights; by default as they are.

    Raises:
        SingDiffusionError: a weight is missing, foreign, of another shape or not finite, or the network is a denoiser.
    """
    network = _skeleton(found.unet, found.source)
    expected, weights, where = network.state_dict(), found.weights, found.source
    if any(".time_emb_proj." in key or ".emb_layers." in key for key in weights):
        raise SingDiffusionError(f"{where} is a denoiser, which takes the time; a module of the first step does not")
    missing = sorted(set(expected) - set(weights))
    if missing:
        raise SingDiffusionError(f"{where} lacks {len(missing)} tensors, such as {missing[0]}")
    unexpected = set(weights) - set(expected)
    foreign = sorted(key for key in unexpected if not key.startswith(("time_embedding.", "time_embed.")))
    if foreign:
        raise SingDiffusionError(f"{where} does not match its configuration: {foreign[0]} has no place in that network")
    state = {}
    for key, value in expected.items():
        if weights[key].shape != value.shape:
            raise SingDiffusionError(
                f"{where}: {key} has shape {tuple(weights[key].shape)}, and its configuration needs {tuple(value.shape)}"
            )
        state[key] = weights[key].to(dtype or weights[key].dtype).contiguous()
    network.load_state_dict(state, assign=True)
    layout.require_finite(network, where)
    return network.eval()
