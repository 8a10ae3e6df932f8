"""``convert``: a published module becomes a folder in our layout, and a folder in our layout a single file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ..errors import SingDiffusionError
from ..files import read_json
from ..modules import SingConfig, layout
from ..modules.config import network_options
from ..modules.text import fingerprint
from ..modules.unet import TimeFreeUNet
from .keys import PREFIX, original_name
from .layouts import SD_SCALING, assemble, read


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    base: str | os.PathLike | None = None,
    bring_text: bool = False,
    unet_config: str | os.PathLike | None = None,
    torch_dtype: torch.dtype | None = None,
) -> SingConfig:
    """Write a published module as a folder in our layout, or one of ours as a single file.

    Args:
        source: a folder with ``config.json`` and ``diffusion_pytorch_model.bin`` or ``.safetensors`` (SingDiffusion's authors), with
            ``oms_module/`` (OneMoreStep) or with ``sing_config.json`` (ours); or a ``.safetensors`` file in the original key layout.
        target: a folder; or a name that ends in ``.safetensors``, for one file in the original key layout.
        base: folder in diffusers' layout of the model whose latents and text encoder the module was trained with. Without it the
            latents count as Stable Diffusion's, and any text encoder of the right width as the module's.
        bring_text: whether to copy that model's tokenizer and text encoder into the module, for bases that have others.
        unet_config: ``config.json`` of the U-Net, for a single file that has none and is not of SD-1.x or SD-2.x size.
        torch_dtype: of the weights written; by default that of the source.

    Returns:
        The configuration of the module.

    Raises:
        SingDiffusionError: the source has none of these layouts, or is damaged or incomplete; or the target cannot be written.
    """
    found = read(Path(source), None if unet_config is None else read_json(Path(unet_config)))
    config, tokenizer, text_encoder = found.config, None, None
    if base is not None:
        config, tokenizer, text_encoder = _from_base(config, Path(base), bring_text)
    elif bring_text:
        raise SingDiffusionError("bring_text needs a base, whose text encoder is copied", setting="base")
    network = assemble(found, torch_dtype)
    target = Path(target)
    if target.suffix == ".safetensors":
        if text_encoder is not None:
            raise SingDiffusionError("a single file cannot hold a text encoder; write a folder")
        _write_single(target, network, config)
    else:
        layout.write(target, config, network, tokenizer, text_encoder)
    return config


def _from_base(config: SingConfig, base: Path, bring_text: bool) -> tuple[SingConfig, Any, Any]:
    """Return the configuration with a base's latent space and text, and its tokenizer and encoder if ``bring_text``."""
    vae = read_json(base / "vae" / "config.json")
    tokenizer, text_encoder = layout.read_text(base, None)
    if text_encoder is None:
        raise SingDiffusionError(f"{base} has no text_encoder")
    width = text_encoder.config.hidden_size
    if width != config.text_width:
        raise SingDiffusionError(
            f"the module takes text of width {config.text_width}, and the text encoder in {base} has width {width}"
        )
    of_base = {
        "vae_scaling_factor": vae.get("scaling_factor", SD_SCALING),
        "vae_shift_factor": vae.get("shift_factor"),
        "text_fingerprint": fingerprint(text_encoder),
    }
    config = SingConfig.model_validate(config.model_dump() | of_base)
    return (config, tokenizer, text_encoder) if bring_text else (config, None, None)


def _write_single(target: Path, network: TimeFreeUNet, config: SingConfig) -> None:
    """Write a file in the original key layout, with both configurations in its metadata; whole, or not at all."""
    if not target.absolute().parent.is_dir():
        raise SingDiffusionError(f"there is no folder {target.absolute().parent}")
    unet = network_options(network.config)
    weights = {PREFIX + original_name(key, unet): value for key, value in network.state_dict().items()}
    metadata = {"format": "pt", "sing_config": config.model_dump_json(), "unet_config": json.dumps(unet)}
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        save_file(weights, partial, metadata)
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        raise SingDiffusionError(f"cannot write {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
