"""A module's folder: ``sing_config.json``, ``module/`` and, for a text encoder of its own, ``tokenizer/`` and ``text_encoder/``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ..compat import hub_names, hub_vocabulary, transformers_dtype
from ..errors import SingDiffusionError, one_line_error, validation_line
from ..files import read_json
from .config import SingConfig
from .decoder import MeanDecoder
from .weights import load_weights, read_weights, require_complete, require_finite

CONFIG = "sing_config.json"
NETWORKS = ("MeanDecoder", "TimeFreeUNet")


def read_config(folder: Path) -> SingConfig:
    """Return the configuration of a module's folder.

    Raises:
        SingDiffusionError: the file is missing or not JSON, or a value is missing, unknown or wrong.
    """
    file = folder / CONFIG
    if not file.is_file():
        published = (folder / "config.json").is_file() or (folder / "oms_module").is_dir()
        hint = f"; to convert a published module: singdiffusion convert {folder} DST" if published else ""
        raise SingDiffusionError(f"{folder} is not a SingDiffusion module: it has no {CONFIG}{hint}")
    try:
        return parse_config(file.read_text(encoding="utf-8"), file)
    except UnicodeDecodeError as error:
        raise SingDiffusionError(f"{file} is not a text file") from error


def parse_config(text: str, where: Any) -> SingConfig:
    """Return the configuration in a JSON text.

    Args:
        text: as ``SingConfig.model_dump_json`` writes it.
        where: its origin, for messages.

    Raises:
        SingDiffusionError: it is not JSON, or a value is missing, unknown or wrong.
    """
    try:
        return SingConfig.model_validate_json(text)
    except ValidationError as error:
        raise SingDiffusionError(f"{where}: {validation_line(error, 'the file')}") from error


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
    network = (_read_decoder if name == "MeanDecoder" else _read_unet)(config, where).to(torch_dtype or torch.float32)
    require_finite(network, where)
    return network.eval().requires_grad_(False)


def _read_decoder(config: dict[str, Any], where: Path) -> torch.nn.Module:
    try:
        network = MeanDecoder.from_config(config)
    except SingDiffusionError as error:
        raise SingDiffusionError(f"{where / 'config.json'}: {error}") from error
    load_weights(network, read_weights(where), where)
    return network


def _read_unet(config: dict[str, Any], where: Path) -> torch.nn.Module:
    from .unet import TimeFreeUNet

    network = TimeFreeUNet.empty(config, where)
    network.take_weights(read_weights(where), where)
    return network


def require_match(network: Any, config: SingConfig, where: Any) -> None:
    """Raise SingDiffusionError if the network's own configuration contradicts ``sing_config.json``."""
    channels = "latent_channels" if "latent_channels" in network.config else "in_channels"
    for key, name in (("latent_channels", channels), ("text_width", "cross_attention_dim")):
        theirs = network.config.get(name)
        if theirs is not None and theirs != getattr(config, key):
            raise SingDiffusionError(
                f"{where} contradicts itself: {key} is {getattr(config, key)} in {CONFIG} and {theirs} in its network"
            )


def read_text(folder: Path, torch_dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Return the tokenizer and the text encoder of a folder, or (None, None) where it has none.

    Raises:
        SingDiffusionError: a file is missing or damaged.
    """
    if not (folder / "text_encoder").is_dir():
        return None, None
    from transformers import CLIPTextModel, CLIPTokenizer

    with one_line_error(f"the text encoder in {folder} cannot be read"):
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        loaded: Any = CLIPTextModel.from_pretrained(
            folder / "text_encoder",
            **transformers_dtype(torch_dtype or torch.float32),
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
            hub_vocabulary(partial / "tokenizer")
            hub_names(partial / "text_encoder")
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
