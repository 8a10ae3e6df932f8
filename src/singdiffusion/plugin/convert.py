"""Modules as others publish them, made into ours and back: SingDiffusion's own repository, OneMoreStep, single files.

What a module must be is the same everywhere: a U-Net without time, of which every weight is there, of the right shape and finite.
Nothing that a file could run is run: pickles are read with ``weights_only``.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import SingDiffusionError
from ..modules import TimeFreeUNet
from . import checkpoints
from .config import SingConfig

WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
PREFIX = "model.diffusion_model."  # of a U-Net's weights in the original key layout
SD_SCALING = 0.18215  # of the VAE of Stable Diffusion 1.x and 2.x

# U-Nets of single files that carry no configuration, by the width of their text (the rest are diffusers' defaults).
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
        config: what we know of its use; ``text_width`` and ``latent_channels`` are the U-Net's.
        source: for messages.
    """

    unet: dict[str, Any]
    weights: dict[str, Tensor]
    config: SingConfig
    source: Path


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    base: str | os.PathLike | None = None,
    bring_text: bool = False,
    unet_config: str | os.PathLike | None = None,
    dtype: torch.dtype | None = None,
) -> SingConfig:
    """Make a published module into one of ours, or one of ours into a single file.

    Args:
        source: a folder with ``config.json`` and ``diffusion_pytorch_model.bin`` or ``.safetensors`` (SingDiffusion's own), with
            ``oms_module/`` (OneMoreStep), with ``sing_config.json`` (ours), or a ``.safetensors`` file in the original key layout.
        target: a folder; or a name that ends in ``.safetensors``, for one file in the original key layout.
        base: a model's folder in diffusers' layout with whose latents and text encoder the module was trained; without it the
            latents are taken for Stable Diffusion's, and any text encoder of the right width for the module's.
        bring_text: put that model's tokenizer and text encoder into the module, for bases that have others.
        unet_config: ``config.json`` of the U-Net, for a single file that carries none and is not of SD-1.x or SD-2.x size.
        dtype: of the weights written; by default what they are.

    Returns:
        The configuration of the module.

    Raises:
        SingDiffusionError: the source is none of these, is damaged or incomplete, or the target cannot be written.
    """
    found = _read(Path(source), None if unet_config is None else _json(Path(unet_config)))
    config, tokenizer, text_encoder = found.config, None, None
    if base is not None:
        config, tokenizer, text_encoder = _of_base(config, Path(base), bring_text)
    elif bring_text:
        raise SingDiffusionError("to bring a text encoder along, say of which model: base")
    module = _assemble(found, dtype)
    target = Path(target)
    if target.suffix == ".safetensors":
        if text_encoder is not None:
            raise SingDiffusionError("a single file has no room for a text encoder; write a folder")
        _write_single(target, module, config)
    else:
        checkpoints.write(target, config, module, tokenizer, text_encoder)
    return config


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(source: Path, unet: dict[str, Any] | None) -> Published:
    if source.is_file():
        if source.suffix != ".safetensors":
            raise SingDiffusionError(
                f"{source} is no .safetensors file; a .bin stands in a folder with its config.json"
            )
        return _read_single(source, unet)
    if not source.is_dir():
        raise SingDiffusionError(f"there is no file or folder {source}")
    if (source / checkpoints.CONFIG).is_file():
        return _read_folder(source / "module", checkpoints.read_config(source))
    if (source / "oms_module").is_dir():
        # It predicts v = alpha noise - sigma x_0, which is -x_0 at t = 1; its guidance is its own, and is not normalised.
        more = {"prediction": "v_prediction", "normalise_guidance": False, "guidance_scale": 1.0}
        return _read_folder(source / "oms_module", None, **more)
    if (source / "config.json").is_file():
        return _read_folder(source, None)
    raise SingDiffusionError(
        f"{source} is no module: it has neither config.json (SingDiffusion's own layout), nor oms_module/ (OneMoreStep), "
        f"nor {checkpoints.CONFIG} (ours)"
    )


def _read_folder(folder: Path, config: SingConfig | None, **more: Any) -> Published:
    unet = _json(folder / "config.json")
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
    except (ValueError, ValidationError) as error:
        raise SingDiffusionError(f"the metadata of {file} is damaged: {str(error).splitlines()[0]}") from error
    if unet is None:
        unet = _guess(inside, file)
    names = {_to_original(name, unet): name for name in _skeleton(unet, file).state_dict()}
    renamed = {names.get(key, key): value for key, value in inside.items()}
    return Published(unet, renamed, config or _config_of(unet, file), file)


def _guess(weights: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """The U-Net's configuration from the width of its text."""
    keys = (key for key in weights if key.endswith("attn2.to_k.weight"))
    width = next((weights[key].shape[1] for key in keys), None)
    if width not in _KNOWN:
        raise SingDiffusionError(
            f"{file} does not say what its U-Net is, and it is not of SD-1.x or SD-2.x size; pass its config.json"
        )
    return dict(_KNOWN[width])


def _weights(file: Path) -> dict[str, Tensor]:
    """All tensors of a file, mapped from disk where the format allows."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (it is no dict)
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except pickle.UnpicklingError as error:
        raise SingDiffusionError(
            f"{file} holds more than weights, or is damaged; it is not read, for it could run code"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SingDiffusionError(f"the weights in {file} cannot be read (missing or damaged): {line}") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise SingDiffusionError(f"{file} holds no table of weights")
    return loaded


def _is_zip(file: Path) -> bool:
    """Files of torch before 1.6 are none, and cannot be mapped."""
    with file.open("rb") as opened:
        return opened.read(2) == b"PK"


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise SingDiffusionError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise SingDiffusionError(f"{file} holds no configuration")
    return content


def _config_of(unet: Mapping[str, Any], where: Any, **more: Any) -> SingConfig:
    width, size = unet.get("cross_attention_dim"), unet.get("sample_size")
    if not isinstance(width, int):
        raise SingDiffusionError(
            f"the configuration in {where} does not say the width of the text: cross_attention_dim"
        )
    return SingConfig(
        latent_channels=unet.get("in_channels", 4),
        vae_scaling_factor=SD_SCALING,
        text_width=width,
        sample_size=size if isinstance(size, int) else None,
        **more,
    )


def _of_base(config: SingConfig, base: Path, bring_text: bool) -> tuple[SingConfig, Any, Any]:
    """The configuration with what a base's VAE and text encoder say, and that tokenizer and encoder where they are wanted."""
    vae = _json(base / "vae" / "config.json")
    tokenizer, text_encoder = checkpoints.read_text(base, None)
    if text_encoder is None:
        raise SingDiffusionError(f"{base} has no text_encoder")
    if text_encoder.config.hidden_size != config.text_width:
        raise SingDiffusionError(
            f"the module takes text of width {config.text_width}, the text encoder in {base} gives {text_encoder.config.hidden_size}"
        )
    from .text import fingerprint

    known = {
        "vae_scaling_factor": vae.get("scaling_factor", SD_SCALING),
        "vae_shift_factor": vae.get("shift_factor"),
        "text_fingerprint": fingerprint(text_encoder),
    }
    config = SingConfig.model_validate(config.model_dump() | known)
    return (config, tokenizer, text_encoder) if bring_text else (config, None, None)


# -- the module -------------------------------------------------------------------------------------------------------


def _skeleton(unet: Mapping[str, Any], where: Any) -> TimeFreeUNet:
    """The network without weights, on the meta device."""
    given = {key: value for key, value in unet.items() if not key.startswith("_")}
    try:
        with torch.device("meta"):
            return TimeFreeUNet.from_config(given)  # type: ignore[return-value]
    except SingDiffusionError:
        raise
    except Exception as error:  # diffusers' constructors raise many kinds
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SingDiffusionError(f"the configuration in {where} makes no U-Net: {line}") from error


def _assemble(found: Published, dtype: torch.dtype | None) -> TimeFreeUNet:
    """The network with the weights, none copied that need not be."""
    module = _skeleton(found.unet, found.source)
    expected, weights, where = module.state_dict(), found.weights, found.source
    if any(".time_emb_proj." in key or ".emb_layers." in key for key in weights):
        raise SingDiffusionError(f"{where} is a denoiser that is told the time, not a module of the first step")
    missing = sorted(set(expected) - set(weights))
    if missing:
        raise SingDiffusionError(f"{where} lacks {len(missing)} tensors, such as {missing[0]}")
    foreign = sorted(
        key for key in set(weights) - set(expected) if not key.startswith(("time_embedding.", "time_embed."))
    )
    if foreign:
        raise SingDiffusionError(
            f"{where} is of another network than its configuration says: {foreign[0]} has no place in it"
        )
    state = {}
    for key, value in expected.items():
        if weights[key].shape != value.shape:
            raise SingDiffusionError(
                f"{where}: {key} is of shape {tuple(weights[key].shape)}, its configuration says {tuple(value.shape)}"
            )
        state[key] = weights[key].to(dtype or weights[key].dtype).contiguous()
    module.load_state_dict(state, assign=True)
    checkpoints.require_finite(module, where)
    return module.eval()


def _write_single(target: Path, module: TimeFreeUNet, config: SingConfig) -> None:
    if not target.absolute().parent.is_dir():
        raise SingDiffusionError(f"there is no folder {target.absolute().parent}")
    unet = {key: value for key, value in module.config.items() if not key.startswith("_")}
    weights = {PREFIX + _to_original(key, unet): value for key, value in module.state_dict().items()}
    metadata = {"format": "pt", "sing_config": config.model_dump_json(), "unet_config": json.dumps(unet)}
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        save_file(weights, partial, metadata)
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        raise SingDiffusionError(f"cannot write {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


# -- key layouts ------------------------------------------------------------------------------------------------------

_INNER = {  # of a ResnetBlock2D
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
_ENDS = {"conv_in.": "input_blocks.0.0.", "conv_norm_out.": "out.0.", "conv_out.": "out.2."}
_BLOCK = re.compile(
    r"(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)


def _to_original(key: str, unet: Mapping[str, Any]) -> str:
    """The name of a weight in the layout of the original Stable Diffusion code, which numbers all layers in one row."""
    for ours, theirs in _ENDS.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    match = _BLOCK.fullmatch(key)
    per_block = unet.get("layers_per_block", 2)
    if match is None or not isinstance(per_block, int):
        raise SingDiffusionError(f"{key} has no name in the original key layout")
    part, block, kind, layer, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    if kind == "resnets":
        rest = next(
            (theirs + rest.removeprefix(ours) for ours, theirs in _INNER.items() if rest.startswith(ours)), rest
        )
    column = {"resnets": 0, "attentions": 1, "downsamplers": 0, "upsamplers": 1}[kind]
    row = (per_block + 1) * block + layer
    if part == "mid_block":
        return f"middle_block.{2 * layer if kind == 'resnets' else 1}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(per_block + 1) * (block + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        attends = "CrossAttn" in _up_blocks(unet)[block]
        return f"output_blocks.{(per_block + 1) * block + per_block}.{column + attends}.{rest}"
    side, row = ("input_blocks", row + 1) if part == "down_blocks" else ("output_blocks", row)
    return f"{side}.{row}.{column}.{rest}"


def _up_blocks(unet: Mapping[str, Any]) -> list[str]:
    default = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
    return list(unet.get("up_block_types", default))
