"""Differences between versions of Python, torch, diffusers, transformers and Pillow, each with the version that ends it.

When the lowest version in pyproject.toml reaches that version, remove the difference from this file.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import SingDiffusionError

SINCE = {
    "FlowMatchLCMScheduler": (0, 34),
    "StableDiffusionPAGImg2ImgPipeline": (0, 31),
    "use_exponential_sigmas": (0, 31),
    "use_beta_sigmas": (0, 31),
    "use_flow_sigmas": (0, 32),
    "modular_pipelines": (0, 35),
}
"""What the lowest version of diffusers lacks, with the version that has it: classes, options of schedulers, and a package."""


def release(package: str) -> tuple[int, int]:
    """Return major and minor version of a package, by its name in an import, such as (0, 42)."""
    major, minor = re.findall(r"\d+", import_module(package).__version__)[:2]
    return int(major), int(minor)


def toml() -> Any:
    """Return the module that reads TOML. Ends with Python 3.11, which has tomli as ``tomllib``."""
    return import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def require_safe_pickle(file: Path) -> None:
    """Check that torch reads a pickle without running code in it.

    Ends with torch 2.6: before, a file could run code even with ``weights_only`` (CVE-2025-32434).

    Raises:
        SingDiffusionError: torch is older.
    """
    import torch

    if release("torch") < (2, 6):
        raise SingDiffusionError(
            f"{file} is a pickle, from which torch {torch.__version__} can run code (CVE-2025-32434); "
            "take a .safetensors file, or torch 2.6 or newer"
        )


@contextmanager
def weights_only(folder: Path) -> Iterator[None]:
    """Make each ``torch.load`` inside the block read tensors and plain values only, whoever calls it: no code in a file runs.

    Ends with torch 2.6 and accelerate 1.0, which do so by themselves; torch before 2.6 would not in an older form of file.

    Args:
        folder: whose ``.bin`` and ``.pt`` files are read in the block.

    Raises:
        SingDiffusionError: one of these is not of the form that torch writes.
    """
    for file in sorted(each for end in ("bin", "pt") for each in folder.glob(f"*.{end}")):
        with file.open("rb") as opened:
            if opened.read(4) != b"PK\3\4":
                raise SingDiffusionError(f"{file.name} is not a file that torch wrote")
    before = {name: os.environ.pop(name, None) for name in ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", _NOT_ONLY)}
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        os.environ.update({name: value for name, value in before.items() if value is not None})


_NOT_ONLY = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # a user's; torch takes one of the two


def accelerator() -> str:
    """Return the type of the fastest device here, such as "cuda", "xpu" or "mps", or "cpu".

    Ends with torch 2.6, which has ``torch.accelerator``.
    """
    import torch

    if hasattr(torch, "accelerator"):
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return "cpu" if found is None else found.type
    if torch.cuda.is_available():
        return "cuda"
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return "xpu"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def fuses_adamw() -> bool:
    """Return whether torch's AdamW takes ``fused=True`` for weights on the CPU. Ends with torch 2.4, which does."""
    return release("torch") >= (2, 4)


def is_sharded(module: Any) -> bool:
    """Return whether FSDP 2 shards a module over processes. Ends with torch 2.6; accelerate uses FSDP 2 only from there on."""
    from torch.distributed import fsdp

    return hasattr(fsdp, "FSDPModule") and isinstance(module, fsdp.FSDPModule)


def diffusers_dtype(dtype: Any) -> dict[str, Any]:
    """Return the argument of diffusers' ``from_pretrained`` and ``from_single_file`` that sets the precision.

    Ends with diffusers 0.40, which has ``dtype`` and warns about ``torch_dtype``.
    """
    return {"dtype" if release("diffusers") >= (0, 40) else "torch_dtype": dtype}


def transformers_dtype(dtype: Any) -> dict[str, Any]:
    """Return the argument of transformers' ``from_pretrained`` that sets the precision.

    Ends with transformers 4.56, which has ``dtype`` beside ``torch_dtype``.
    """
    return {"dtype" if release("transformers") >= (4, 56) else "torch_dtype": dtype}


def small_memory() -> dict[str, Any]:
    """Return the argument of transformers' ``from_pretrained`` that keeps weights in memory once. Ends with transformers 5.0, which does so."""
    return {} if release("transformers") >= (5, 0) else {"low_cpu_mem_usage": True}


def missing_weights(error: Exception) -> list[str]:
    """Return the names of the weights that an error of diffusers' ``from_pretrained`` reports as missing; [] for other errors.

    Ends with diffusers 0.33, which leaves missing weights empty, on the device "meta".
    """
    found = re.search(r"the following keys are missing: \n (.*)\. \n", str(error))
    return [] if found is None else found[1].split(", ")


def clip_image_processor() -> Any:
    """Return the class that prepares pictures for CLIP with Pillow, without torchvision.

    Ends with transformers 5.4, which has ``CLIPImageProcessorPil``, and whose ``CLIPImageProcessor`` needs torchvision.
    """
    import transformers

    name = "CLIPImageProcessorPil" if release("transformers") >= (5, 4) else "CLIPImageProcessor"
    return getattr(transformers, name)


def has_transparency(picture: Any) -> bool:
    """Return whether a Pillow picture has an alpha channel or a transparent color.

    Ends with Pillow 10.1, whose pictures have this as ``has_transparency_data``.
    """
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        return True
    return picture.mode == "P" and picture.palette.mode.endswith("A")


def default_font(size: int) -> Any:
    """Return Pillow's own font. Ends with Pillow 10.1; before, it has one size."""
    from PIL import ImageFont

    return ImageFont.load_default(size) if release("PIL") >= (10, 1) else ImageFont.load_default()


def drawable(text: str) -> str:
    """Return a text that ``default_font`` can draw. Ends with Pillow 10.1; before, the font has only the letters of Latin-1."""
    return text if release("PIL") >= (10, 1) else text.encode("latin-1", "replace").decode("latin-1")


def embeddings_of(found: Any) -> Any:
    """Return the embeddings (B, D) that a CLIP model computes of pictures or text.

    Ends with transformers 5.0, which returns them inside an output object.
    """
    return getattr(found, "pooler_output", found)


def named_weights(network: Any) -> dict[str, Any]:
    """Return name -> weight of a network, with the same names in every version.

    Ends with transformers 5.6, in which a ``CLIPTextModel`` has no prefix ``text_model.``.
    """
    weights = network.state_dict()
    prefix = "text_model." if all(name.startswith("text_model.") for name in weights) else ""
    return {name.removeprefix(prefix): weight for name, weight in weights.items()}


def hub_names(folder: Path) -> None:
    """Rename the weights of a text encoder that ``save_pretrained`` wrote to the names that files on the hub have.

    Since 5.6 transformers writes a ``CLIPTextModel`` without the prefix ``text_model.``, which older versions cannot read. All versions
    read the names with it. Ends with transformers 5.6.

    Args:
        folder: holds ``config.json`` and ``model.safetensors``; other models are left as they are.
    """
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file) if file.is_file() else {}
    if "embeddings.token_embedding.weight" in weights:
        save_file({f"text_model.{name}": value for name, value in weights.items()}, file, metadata={"format": "pt"})


def hub_vocabulary(folder: Path) -> None:
    """Write a tokenizer that ``save_pretrained`` wrote as older versions and other tools read it.

    Since 5.0 transformers writes ``tokenizer.json`` only, and not ``vocab.json`` and ``merges.txt``; and tokenizers writes pairs of tokens
    into it since 0.20, which older versions cannot read. All versions read two tokens with a space between. Ends with transformers 5.0.

    Args:
        folder: holds ``tokenizer.json``; tokenizers without one are left as they are.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        return
    if not (folder / "vocab.json").exists():
        Tokenizer.from_file(str(file)).model.save(str(folder))
    content = json.loads(file.read_text("utf-8"))
    pairs = content["model"].get("merges")
    if pairs is None:  # not of byte pairs
        return
    content["model"]["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
