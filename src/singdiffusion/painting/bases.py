"""Loading base models: an embedded one, a folder, a hub id or a single file, and one clear line when it is none of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from ..errors import SingDiffusionError, one_line_error


def load_model(model: str, dtype: Any, config: Path | None = None) -> Any:
    """A pipeline: an embedded model, a folder in diffusers' layout, a hub id, or a single file with a folder of configurations."""
    from .. import tiny

    if model in tiny.MODELS:
        return tiny.load_pipeline(dtype, model)
    from diffusers import DiffusionPipeline

    path = Path(model)
    require_name(model)
    if path.is_file():
        return _load_single_file(path, dtype, config)
    if config is not None:
        raise SingDiffusionError(f"--model-config goes with a single file, and {model} is none")
    if path.is_dir() and not (path / "model_index.json").is_file():
        raise SingDiffusionError(f"{model} is no diffusers model: it has no model_index.json")
    where = "cannot be read" if path.is_dir() else "is no file or folder here, and the hub did not return it"
    with one_line_error(f"the model {model} {where}"):
        return DiffusionPipeline.from_pretrained(model, dtype=dtype)


TEXT = ("tokenizer", "tokenizer_2"), ("text_encoder", "text_encoder_2")


def load_text(model: str, dtype: Any) -> tuple[list[Any], list[Any]]:
    """Tokenizers and frozen text encoders of a base model, nothing else of it: not even downloaded.

    Raises:
        SingDiffusionError: it is no model, or has none.
    """
    from .. import tiny

    if model in tiny.MODELS or Path(model).is_file():
        pipe = load_model(model, dtype)
        tokenizers, encoders = ([p for n in names if (p := getattr(pipe, n, None)) is not None] for names in TEXT)
    else:
        folder = _text_folder(model)
        with one_line_error(f"the text encoder of {model} cannot be read"):
            index = json.loads((folder / "model_index.json").read_text())
            tokenizers, encoders = ([_part(folder, n, index[n], dtype) for n in names if n in index] for names in TEXT)
    if not tokenizers or len(tokenizers) != len(encoders):
        raise SingDiffusionError(f"{model} has no text encoder with its tokenizer, which training needs")
    return tokenizers, [encoder.eval().requires_grad_(False) for encoder in encoders]


def _part(folder: Path, name: str, told: list[str], dtype: Any) -> Any:
    """A component as model_index.json tells it: ["transformers", class]; code of other libraries is not run."""
    if told[0] != "transformers":
        raise SingDiffusionError(f"its {name} is of the library {told[0]}, not of transformers")
    loader = getattr(transformers, told[1])
    options = {} if name.startswith("tokenizer") else {"dtype": dtype}
    return loader.from_pretrained(str(folder / name), local_files_only=True, **options)


def _text_folder(model: str) -> Path:
    require_name(model)
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        with one_line_error(f"the model {model} is no file or folder here, and the hub did not return it"):
            patterns = ["model_index.json", "tokenizer*/*", "text_encoder*/*"]
            folder = Path(snapshot_download(model, allow_patterns=patterns))
    if not (folder / "model_index.json").is_file():
        raise SingDiffusionError(f"{model} is no diffusers model: it has no model_index.json")
    return folder


def load_unet(model: str) -> Any:
    """The U-Net of a base model in float32, nothing else of it.

    Raises:
        SingDiffusionError: it is no model, or has no U-Net.
    """
    from diffusers import UNet2DConditionModel

    from .. import tiny

    if model in tiny.MODELS or Path(model).is_file():
        pipe = load_model(model, torch.float32)
        if getattr(pipe, "unet", None) is None:
            raise SingDiffusionError(f"{model} has no U-Net to start from")
        return pipe.unet
    require_name(model)
    with one_line_error(f"the U-Net of {model} cannot be read"):
        return UNet2DConditionModel.from_pretrained(model, subfolder="unet", dtype=torch.float32)


def _load_single_file(file: Path, dtype: Any, config: Path | None) -> Any:
    """A checkpoint in the original key layout, as community models are shared."""
    import diffusers

    if file.suffix != ".safetensors":
        raise SingDiffusionError(f"{file} is no .safetensors file; other files could run code and are not read")
    index = None if config is None else config / "model_index.json"
    if index is not None and not index.is_file():
        raise SingDiffusionError(f"{config} is no diffusers model: it has no model_index.json")
    name = "StableDiffusionPipeline" if index is None else json.loads(index.read_text()).get("_class_name", "")
    pipeline = getattr(diffusers, name, None)
    if not hasattr(pipeline, "from_single_file"):
        raise SingDiffusionError(f"{config} is a {name}, which has no single files")
    hint = "" if config is not None else "; offline, say --model-config FOLDER"
    options = {} if config is None else {"config": str(config), "local_files_only": True}
    if name == "StableDiffusionPipeline":
        options |= {"safety_checker": None, "requires_safety_checker": False}
    with one_line_error(f"the model {file} cannot be read{hint}"):
        return pipeline.from_single_file(str(file), dtype=dtype, **options)  # type: ignore[union-attr]


def require_name(model: str) -> None:
    """Tell a name that cannot be a model's from one whose module is not known."""
    if not Path(model).exists() and model.count("/") != 1:
        raise SingDiffusionError(
            f"there is no model {model!r}: no embedded one, no file or folder, and no hub id such as owner/name"
        )
