"""A module's folder: ``sing_config.json``, ``module/`` and, where it brings them, ``tokenizer/`` and ``text_encoder/``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from ..errors import SingDiffusionError, one_line_error, validation_line
from ..files import read_json
from .config import SingConfig
from .decoder import MeanDecoder

CONFIG = "sing_config.json"
NETWORKS = ("MeanDecoder", "TimeFreeUNet")


def read_config(folder: Path) -> SingConfig:
    """Return the configuration of a module's folder.

    Raises:
        SingDiffusionError: it is missing, not JSON, or has missing, unknown or wrong values.
    """
    file = folder / CONFIG
    if not file.is_file():
        published = (folder / "config.json").is_file() or (folder / "oms_module").is_dir()
        hint = f"; to convert a published module: singdiffusion convert {folder} DST" if published else ""
        raise SingDiffusionError(f"{folder} is not a SingDiffusion module: it has no {CONFIG}{hint}")
    try:
        return SingConfig.model_validate_json(file.read_text())
    except ValidationError as error:
        raise SingDiffusionError(f"{file}: {validation_line(error, 'the file')}") from error
    except UnicodeDecodeError as error:
        raise SingDiffusionError(f"{file} is not a text file") from error


def read_network(folder: Path, torch_dtype: torch.dtype | None) -> torch.nn.Module:
    """Return the network in ``folder/module``, in evaluation mode.

    Raises:
        SingDiffusionError: the folder is incomplete, a file is damaged, or a weight is missing or not finite.
    """
    where = folder / "module"
    config = read_json(where / "config.json")
    name = config.get("_class_name")
    if name not in NETWORKS:
        raise SingDiffusionError(f"{where} holds a {name}; known networks: {', '.join(NETWORKS)}")
    read = _read_decoder if name == "MeanDecoder" else _read_unet
    with one_line_error(f"the weights in {where} cannot be read (missing or damaged)"):
        network, report = read(where, config, torch_dtype or torch.float32)
    require_complete(network, report, where)
    require_finite(network, where)
    return network.eval().requires_grad_(False)


def _read_decoder(
    folder: Path, config: dict[str, Any], dtype: torch.dtype
) -> tuple[torch.nn.Module, dict[str, list[str]]]:
    network = MeanDecoder.from_config(config)
    variant = "" if _variant(folder) is None else ".fp16"
    found = network.load_state_dict(
        load_file(folder / f"diffusion_pytorch_model{variant}.safetensors"), strict=False
    )  # fmt: skip
    return network.to(dtype), {"missing_keys": found.missing_keys, "unexpected_keys": found.unexpected_keys}


def _read_unet(folder: Path, config: dict[str, Any], dtype: torch.dtype) -> tuple[torch.nn.Module, dict[str, Any]]:
    from .unet import TimeFreeUNet

    loaded: Any = TimeFreeUNet.from_pretrained(
        str(folder), dtype=dtype, variant=_variant(folder), local_files_only=True, output_loading_info=True
    )
    return loaded


def _variant(folder: Path) -> str | None:
    """Return "fp16" where the weights have that name only, as half-precision weights are published."""
    names = [file.name for file in folder.glob("diffusion_pytorch_model*")]
    return "fp16" if names and all(".fp16." in name for name in names) else None


def require_complete(network: Any, report: Any, where: Any) -> None:
    """Raise SingDiffusionError if weights are missing, which loaders fill with noise, or belong to another network."""
    missing = sorted(report["missing_keys"]) or [k for k, p in network.state_dict().items() if p.is_meta]
    if missing:
        raise SingDiffusionError(f"the weights in {where} lack {len(missing)} tensors, such as {missing[0]}")
    foreign = sorted(report["unexpected_keys"])
    if foreign:
        raise SingDiffusionError(
            f"the weights in {where} do not match its config.json: {foreign[0]} has no place in that network"
        )


def require_match(network: Any, config: SingConfig, where: Any) -> None:
    """Raise SingDiffusionError if the network's own configuration contradicts ``sing_config.json``."""
    channels = "latent_channels" if "latent_channels" in network.config else "in_channels"
    for key, name in (("latent_channels", channels), ("text_width", "cross_attention_dim")):
        theirs = network.config.get(name)
        if theirs is not None and theirs != getattr(config, key):
            raise SingDiffusionError(
                f"{where} contradicts itself: {key} is {getattr(config, key)} in {CONFIG} and {theirs} in its network"
            )


def require_finite(network: torch.nn.Module, where: Any) -> None:
    """Raise SingDiffusionError, naming the tensor, if a weight is NaN or infinite."""
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise SingDiffusionError(f"the weights in {where} are damaged: {key} has NaN or infinite values")


def read_text(folder: Path, torch_dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Return tokenizer and text encoder of a folder, or (None, None) where it has none.

    Raises:
        SingDiffusionError: their files are incomplete or damaged.
    """
    if not (folder / "text_encoder").is_dir():
        return None, None
    from transformers import CLIPTextModel, CLIPTokenizer

    with one_line_error(f"the text encoder in {folder} cannot be read"):
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        loaded: Any = CLIPTextModel.from_pretrained(
            folder / "text_encoder",
            dtype=torch_dtype or torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    encoder, report = loaded
    require_complete(encoder, report, folder / "text_encoder")
    require_finite(encoder, folder / "text_encoder")
    return tokenizer, encoder.eval().requires_grad_(False)


def write(folder: Path, config: SingConfig, network: Any, tokenizer: Any, text_encoder: Any) -> None:
    """Write a module's folder, all of it or nothing; a killed process leaves a ``*.partial`` folder beside it.

    Raises:
        SingDiffusionError: ``folder`` exists and is not a module.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CONFIG).exists())):
        raise SingDiffusionError(f"{folder} exists and is not a SingDiffusion module; choose another folder")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        network.save_pretrained(partial / "module")
        if text_encoder is not None:
            tokenizer.save_pretrained(partial / "tokenizer")
            text_encoder.save_pretrained(partial / "text_encoder")
        (partial / CONFIG).write_text(config.model_dump_json(indent=2) + "\n")
        _swap(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; a full folder cannot be renamed over, so the old one is renamed first."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
