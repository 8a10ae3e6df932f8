"""Reading and writing modules: a folder or a hub id in, one clear line when it is none; never unpickling code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from .. import tiny
from ..errors import SingDiffusionError
from ..modules import MeanDecoder, TimeFreeUNet
from .config import SingConfig
from .hub import download

CONFIG = "sing_config.json"
MODULES = {"MeanDecoder": MeanDecoder, "TimeFreeUNet": TimeFreeUNet}


def resolve(source: str | os.PathLike, subfolder: str = "", **hub: Any) -> Path:
    """The local folder of ``source``: an embedded module, a folder, or a hub id that is downloaded or in the cache.

    ``subfolder`` is where in that folder or repository the module lies.

    Raises:
        SingDiffusionError: it is neither here nor to be had.
    """
    if str(source) in tiny.MODULES:
        return tiny.module_folder(str(source))
    folder = Path(source)
    if folder.is_dir():
        return folder / subfolder
    if folder.exists():
        raise SingDiffusionError(f"{source} is a file; a SingDiffusion module is a folder with {CONFIG}")
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    patterns = [prefix + name for name in (CONFIG, "module/*", "tokenizer/*", "text_encoder/*")]
    return download(str(source), patterns, "folder", **hub) / subfolder


def read_config(folder: Path) -> SingConfig:
    """The configuration of a module's folder.

    Raises:
        SingDiffusionError: it is missing, no JSON, or has missing, unknown or wrong values.
    """
    file = folder / CONFIG
    if not file.is_file():
        published = (folder / "config.json").is_file() or (folder / "oms_module").is_dir()
        hint = f"; to make a published module into one: singdiffusion convert {folder} DST" if published else ""
        raise SingDiffusionError(f"{folder} is no SingDiffusion module: it has no {CONFIG}{hint}")
    try:
        return SingConfig.model_validate_json(file.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise SingDiffusionError(f"{file} is wrong at {where}: {first['msg']}") from error
    except UnicodeDecodeError as error:
        raise SingDiffusionError(f"{file} is not a text file") from error


def read_module(folder: Path, torch_dtype: torch.dtype | None) -> torch.nn.Module:
    """The network in ``folder/module``, in evaluation mode, every weight there and finite.

    Raises:
        SingDiffusionError: the folder is incomplete, a file is cut short, or a weight is missing or not finite.
    """
    here = folder / "module"
    try:
        name = json.loads((here / "config.json").read_text()).get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise SingDiffusionError(f"{here} has no readable config.json") from error
    if name not in MODULES:
        raise SingDiffusionError(f"{here} holds a {name}; known modules: {', '.join(MODULES)}")
    try:
        loaded: Any = MODULES[name].from_pretrained(
            str(here),
            dtype=torch_dtype or torch.float32,
            variant=_variant(here),
            local_files_only=True,
            output_loading_info=True,
        )
    except SingDiffusionError:
        raise
    except Exception as error:  # safetensors, torch and diffusers raise many kinds for a damaged file
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SingDiffusionError(f"the weights in {here} cannot be read (missing or damaged): {line}") from error
    module, report = loaded
    require_complete(module, report, here)
    require_finite(module, here)
    return module.eval().requires_grad_(False)


def _variant(folder: Path) -> str | None:
    """ "fp16" where the weights are there under that name only, as half-precision weights are published."""
    names = [file.name for file in folder.glob("diffusion_pytorch_model*")]
    return "fp16" if names and all(".fp16." in name for name in names) else None


def require_complete(module: Any, report: Any, where: Any) -> None:
    """Raise SingDiffusionError if weights are missing, which loaders fill with noise, or belong to another network."""
    missing = sorted(report["missing_keys"]) or [k for k, p in module.state_dict().items() if p.is_meta]
    if missing:
        raise SingDiffusionError(f"the weights in {where} lack {len(missing)} tensors, such as {missing[0]}")
    foreign = sorted(report["unexpected_keys"])
    if foreign:
        raise SingDiffusionError(
            f"the weights in {where} are of another network than its config.json says: {foreign[0]} has no place in it"
        )


def require_match(module: Any, config: SingConfig, where: Any) -> None:
    """Raise SingDiffusionError if the network's own configuration says otherwise than ``sing_config.json``."""
    channels = "latent_channels" if "latent_channels" in module.config else "in_channels"
    for key, name in (("latent_channels", channels), ("text_width", "cross_attention_dim")):
        theirs = module.config.get(name)
        if theirs is not None and theirs != getattr(config, key):
            raise SingDiffusionError(
                f"{where} contradicts itself: {key} is {getattr(config, key)} in {CONFIG}, and the network's is {theirs}"
            )


def require_finite(module: torch.nn.Module, where: Any) -> None:
    """Raise SingDiffusionError, naming the tensor, if a weight is NaN or infinite."""
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise SingDiffusionError(f"the weights in {where} are damaged: {key} has NaN or infinite values")


def read_text(folder: Path, torch_dtype: torch.dtype | None) -> tuple[Any, Any]:
    """The module's own tokenizer and text encoder, or (None, None) where it has none."""
    if not (folder / "text_encoder").is_dir():
        return None, None
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        loaded: Any = CLIPTextModel.from_pretrained(
            folder / "text_encoder",
            dtype=torch_dtype or torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SingDiffusionError(f"the text encoder in {folder} cannot be read: {line}") from error
    encoder, report = loaded
    require_complete(encoder, report, folder / "text_encoder")
    require_finite(encoder, folder / "text_encoder")
    return tokenizer, encoder.eval().requires_grad_(False)


def write(folder: Path, config: SingConfig, module: Any, tokenizer: Any, text_encoder: Any) -> None:
    """Write a module's folder: all of it or nothing; a killed process leaves a ``*.partial`` folder beside it.

    Raises:
        SingDiffusionError: ``folder`` exists and is not a module, which nobody would want to lose.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CONFIG).exists())):
        raise SingDiffusionError(f"{folder} exists and is no SingDiffusion module; choose another folder")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        module.save_pretrained(partial / "module")
        if text_encoder is not None:
            tokenizer.save_pretrained(partial / "tokenizer")
            text_encoder.save_pretrained(partial / "text_encoder")
        (partial / CONFIG).write_text(config.model_dump_json(indent=2) + "\n")
        _swap(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; a full folder cannot be renamed over, so the old one steps aside first."""
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
