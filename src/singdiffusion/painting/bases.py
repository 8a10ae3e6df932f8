"""Load base models: an embedded one, a folder, a hub id or a single file; anything else is one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from ..compat import diffusers_dtype
from ..errors import SingDiffusionError
from ..modules.limits import building
from ..published.places import folder_of
from ..reading import read_json
from .complete import missing_named, network_class, read_network, require_complete, require_complete_file
from .configurations import require_configs, require_room_for_weights
from .devices import AUTO, choose_device, choose_dtype

INDEX = "model_index.json"
CONFIGURATIONS = [INDEX, "*/*.json"]
MOST_WEIGHTS = 30_000  # tensors of a pipeline, which count twice while it is loaded; SDXL has 2700


def load_model(
    model: str,
    device: str | torch.device = AUTO,
    torch_dtype: str | torch.dtype = AUTO,
    config: Path | None = None,
) -> Any:
    """Return a diffusers pipeline on its device, in its precision.

    Args:
        model: name of an embedded model, folder in diffusers' layout, hub id, or single ``.safetensors`` file.
        device: ``auto`` for the fastest here; see ``devices.choose_device``.
        torch_dtype: ``auto`` for the fastest in which this model does not overflow; see ``devices.choose_dtype``.
        config: for a single file: folder in diffusers' layout with its configurations.

    Raises:
        SingDiffusionError: there is no such model or device, or the model cannot be read.
    """
    from .. import tiny

    place, path = choose_device(device), Path(model)
    if config is not None and not path.is_file():
        raise SingDiffusionError(
            f"the model {model} is not a single file, and only these need a folder of configurations",
            setting="model_config",
        )
    if model in tiny.MODELS:
        return tiny.load_pipeline(choose_dtype(torch_dtype, place), model).to(place)
    require_name(model)
    if path.is_file():
        index = _index(config) if config is not None else {}
        if config is not None:
            require_configs(config, list(_classes(index)))
        return _load_single_file(path, choose_dtype(torch_dtype, place, _classes(index)), config, index).to(place)
    return _load_folder(model, place, torch_dtype)


def load_text(model: str, torch_dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Return tokenizers and frozen text encoders of a base model; of its other parts nothing is downloaded.

    Args:
        model: as for ``load_model``.
        torch_dtype: of the text encoders.

    Raises:
        SingDiffusionError: there is no such model, or it has no text encoder.
    """
    from .. import tiny

    names = ("tokenizer", "tokenizer_2"), ("text_encoder", "text_encoder_2")
    if model in tiny.MODELS or Path(model).is_file():
        pipe = load_model(model, "cpu", torch_dtype)
        tokenizers, encoders = ([p for n in each if (p := getattr(pipe, n, None)) is not None] for each in names)
    else:
        folder = _text_folder(model)
        index = _index(folder)
        require_configs(folder, [name for each in names for name in each if name in index])
        with building(f"the text encoder of {model} cannot be read"):
            tokenizers, encoders = (
                [_text_part(folder, n, index[n], torch_dtype) for n in each if n in index] for each in names
            )
    if not tokenizers or len(tokenizers) != len(encoders):
        raise SingDiffusionError(f"{model} has no text encoder with its tokenizer, which training needs")
    return tokenizers, [encoder.eval().requires_grad_(False) for encoder in encoders]


def load_unet(model: str) -> Any:
    """Return the U-Net of a base model, float32 on the CPU; of a folder or hub id only this part is read.

    Args:
        model: as for ``load_model``.

    Raises:
        SingDiffusionError: there is no such model, or it has no U-Net.
    """
    from diffusers import UNet2DConditionModel

    from .. import tiny

    if model in tiny.MODELS or Path(model).is_file():
        pipe = load_model(model, "cpu", torch.float32)
        if getattr(pipe, "unet", None) is None:
            raise SingDiffusionError(f"{model} has no U-Net to start from")
        return pipe.unet
    require_name(model)
    require_configs(_configs(model), ["unet"])
    with building(f"the U-Net of {model} cannot be read"), missing_named(model, "unet"):
        unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", **diffusers_dtype(torch.float32))
    require_complete({"unet": unet}, model)
    return unet


def require_name(model: str) -> None:
    """Check that a name can be a model's: an embedded one, something on the disk, or a hub id.

    Raises:
        SingDiffusionError: it can be none of these.
    """
    from .. import tiny

    if model not in tiny.MODELS and not Path(model).exists() and model.count("/") != 1:
        raise SingDiffusionError(
            f"there is no model {model!r}: it is not embedded, not a file or folder here, and not a hub id such as owner/name",
            setting="model",
        )


def _load_folder(model: str, device: torch.device, torch_dtype: str | torch.dtype) -> Any:
    """Load a folder in diffusers' layout, or a hub id."""
    from diffusers import DiffusionPipeline

    folder = _configs(model)
    index = _index(folder)
    require_configs(folder, list(_classes(index)))
    dtype = choose_dtype(torch_dtype, device, _classes(index))
    is_local = Path(model).is_dir()
    if is_local:
        require_room_for_weights(folder, _classes(index), dtype)
    networks = {name: kind for name, kind in _networks(index).items() if not is_local or (Path(model) / name).is_dir()}
    with building(f"the model {model} cannot be read", MOST_WEIGHTS), missing_named(model):
        read = {name: read_network(kind, model, name, dtype) for name, kind in networks.items()}
        pipe = DiffusionPipeline.from_pretrained(model, **diffusers_dtype(dtype), **read)
        require_complete(pipe.components, model)
        return pipe.to(device)


def _load_single_file(file: Path, dtype: torch.dtype, config: Path | None, index: Mapping[str, Any]) -> Any:
    """Load a checkpoint in the original key layout, as community models are shared."""
    import diffusers

    if file.suffix != ".safetensors":
        raise SingDiffusionError(f"{file} is not a .safetensors file; other files could run code and are not read")
    name = index.get("_class_name", "StableDiffusionPipeline")
    pipeline: Any = getattr(diffusers, name, None)
    if not hasattr(pipeline, "from_single_file"):
        raise SingDiffusionError(f"{config} is a {name}, which has no single files", setting="model_config")
    options: dict[str, Any] = {} if config is None else {"config": str(config), "local_files_only": True}
    if name == "StableDiffusionPipeline":
        options |= {"safety_checker": None, "requires_safety_checker": False}
    try:
        with building(f"the model {file} cannot be read", MOST_WEIGHTS):
            pipe = pipeline.from_single_file(str(file), **diffusers_dtype(dtype), **options)
    except SingDiffusionError as error:
        require_complete_file(file, error.__cause__)
        if config is not None:
            raise
        line = f"{error}; without a network it needs a folder of configurations"
        raise SingDiffusionError(line, setting="model_config") from error
    require_complete(pipe.components, str(file), original=True)
    return pipe


def _configs(model: str) -> Path:
    """Return the folder of a model, of which only configurations are downloaded where it is a hub id."""
    return folder_of(model, "the model", CONFIGURATIONS)


def _text_folder(model: str) -> Path:
    """Return the folder of a model, downloaded without its large networks where it is a hub id."""
    require_name(model)
    return folder_of(model, "the model", [INDEX, "tokenizer*/*", "text_encoder*/*"])


def _text_part(folder: Path, name: str, source: list[str], dtype: torch.dtype) -> Any:
    """Load a component from model_index.json's ["transformers", class]; other libraries' code is not run."""
    library, kind = source
    if library != "transformers":
        raise SingDiffusionError(f"its {name} is of the library {library}, not of transformers")
    is_tokenizer = name.startswith("tokenizer")
    home = transformers.PreTrainedTokenizerBase if is_tokenizer else transformers.PreTrainedModel
    found = getattr(transformers, kind, None)
    if not (isinstance(found, type) and issubclass(found, home)):
        raise SingDiffusionError(
            f"its {name} is a {kind:.80}, which is no {'tokenizer' if is_tokenizer else 'network'}"
        )
    if is_tokenizer:
        return found.from_pretrained(str(folder / name), local_files_only=True)
    return read_network(found, str(folder), name, dtype)


def _index(folder: Path) -> dict[str, Any]:
    """Return a model_index.json: text beside ``_class_name``, and a pair of library and class, or null, for each component.

    Raises:
        SingDiffusionError: it is missing or cannot be read, or an entry is something else.
    """
    file = folder / INDEX
    if not file.is_file():
        raise SingDiffusionError(f"{folder} is not a diffusers model: it has no {INDEX}")
    index = read_json(file)
    if not isinstance(index.get("_class_name", ""), str):
        raise SingDiffusionError(f"{file}: _class_name must be text, the class of a pipeline")
    for name, value in index.items():
        if isinstance(value, list) and not (len(value) == 2 and all(isinstance(each, str | None) for each in value)):
            raise SingDiffusionError(f"{file}: {name:.80} must be a library and a class, not {value!r:.40}")
        if isinstance(value, list) and Path(name).name != name:
            raise SingDiffusionError(f"{file} names the component {name!r:.80}; it must be a folder beside the file")
    return index


def _networks(index: Mapping[str, Any]) -> dict[str, Any]:
    """Component -> class, of those components in a model_index.json that transformers loads."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list | tuple) and len(value) == 2}
    return {name: kind for name, value in pairs.items() if (kind := network_class(value)) is not None}


def _classes(index: Mapping[str, Any]) -> dict[str, str]:
    """Component -> class name, of the contents of a model_index.json."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list | tuple) and len(value) == 2}
    return {name: kind for name, (_, kind) in pairs.items() if isinstance(kind, str)}
