"""A module's folder: ``sing_config.json``, ``module/``, a model card and, for text encoders of its own, ``tokenizer*/`` and ``text_encoder*/``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..compat import hub_names, hub_vocabulary, transformers_dtype
from ..errors import SingDiffusionError, one_line_error, reason
from ..files import require_writable, share
from ..reading import read_json
from ..staging import restored, staged
from . import card
from .config import SingConfig
from .decoder import MeanDecoder
from .limits import building, require_memory_to_cast, require_no_larger, require_sizes
from .text import PromptEncoder
from .weights import TEXT_ENCODER, load_weights, read_weights, require_complete, require_finite, require_fit

CONFIG = "sing_config.json"
NETWORKS = ("MeanDecoder", "TimeFreeUNet")
CARD = "README.md"
TEXT_PARTS = ("", "_2")  # what the folders of a first and a second text encoder and tokenizer end in, as in diffusers
_TOKENIZER = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_ENCODER = ("config.json", "generation_config.json", "model*", "pytorch_model*")
# what an older module's folder has of ours, and a new one replaces
OWNED = (
    CONFIG, CARD, "module/config.json", "module/diffusion_pytorch_model*",
    *(f"tokenizer{end}/{name}" for end in TEXT_PARTS for name in _TOKENIZER),
    *(f"text_encoder{end}/{name}" for end in TEXT_PARTS for name in _ENCODER),
)  # fmt: skip


def read_config(folder: Path) -> SingConfig:
    """Return the configuration of a module's folder.

    Raises:
        SingDiffusionError: the file is missing or not JSON, or a value is missing, unknown or wrong.
    """
    file = restored(folder) / CONFIG
    if not file.is_file():
        published = (folder / "config.json").is_file() or (folder / "oms_module").is_dir()
        hint = "; SingDiffusion.from_pretrained also reads modules as others publish them" if published else ""
        raise SingDiffusionError(f"{folder} is not a SingDiffusion module: it has no {CONFIG}{hint}")
    return read_json(file, SingConfig)


def read_network(where: Path, torch_dtype: torch.dtype | None, weights: Path | None = None) -> torch.nn.Module:
    """Return the network in a module's folder ``module/``, in evaluation mode.

    Args:
        where: that folder.
        torch_dtype: of the network; None: that of its weights.
        weights: their file, or the index of their shards; None: those in ``where``.

    Raises:
        SingDiffusionError: the folder is incomplete, a file is damaged, or a weight is missing or not finite.
    """
    config = read_json(where / "config.json")
    name = config.get("_class_name")
    if name not in NETWORKS:
        raise SingDiffusionError(f"{where} holds a {name}; known networks: {', '.join(NETWORKS)}")
    return build_network(config, read_weights(weights or where), where, torch_dtype)


def build_network(
    config: dict[str, Any], weights: Mapping[str, Tensor], where: Any, torch_dtype: torch.dtype | None
) -> torch.nn.Module:
    """Return a network with its weights, in evaluation mode. Those of a U-Net are copied only where their dtype changes.

    Args:
        config: of a ``MeanDecoder`` or of a U-Net without time, whatever its class is called.
        weights: by name.
        where: their origin, for messages.
        torch_dtype: of the network; None: that of the weights.

    Raises:
        SingDiffusionError: the configuration makes no such network, or a weight is missing, unexpected, of another shape or not finite.
    """
    if config.get("_class_name") == "MeanDecoder":
        network: Any = _empty_decoder(config, where)
        require_fit(network, weights, where)
        # copied: it is small, and mapped memory would change with the file
        load_weights(network.to_empty(device="cpu"), weights, where)
        torch_dtype = torch_dtype or next(iter(weights.values())).dtype  # the same for all
    else:
        from .unet import TimeFreeUNet

        network = TimeFreeUNet.empty(config, where)
        network.take_weights(weights, where)
    if torch_dtype is not None:
        require_memory_to_cast(weights.values(), torch_dtype, where)
        torch.nn.Module.to(network, torch_dtype)  # diffusers' own ``to`` prints a line about layers that it has not
    require_finite(network, where)
    return network.eval().requires_grad_(False)


def _empty_decoder(config: dict[str, Any], where: Any) -> torch.nn.Module:
    """Return the decoder of a configuration on the meta device, without weights."""
    try:
        with building("it makes no MeanDecoder"), torch.device("meta"):
            return MeanDecoder.from_config(config)
    except SingDiffusionError as error:
        raise SingDiffusionError(f"the configuration in {where}: {error}") from error


def require_match(network: Any, config: SingConfig, where: Any) -> None:
    """Raise SingDiffusionError if the network's own configuration contradicts ``sing_config.json``."""
    channels = "latent_channels" if "latent_channels" in network.config else "in_channels"
    for key, name in (("latent_channels", channels), ("text_width", "cross_attention_dim")):
        theirs = network.config.get(name)
        if theirs is not None and theirs != getattr(config, key):
            raise SingDiffusionError(
                f"{where} contradicts itself: {key} is {getattr(config, key)} in {CONFIG} and {theirs} in its network"
            )


def is_part(name: str) -> bool:
    """Return whether a file is one of a model's: its configuration or weights, and not a note that somebody left there."""
    return name.endswith((".json", ".safetensors", ".bin"))


def read_text(folder: Path, torch_dtype: torch.dtype | None) -> PromptEncoder | None:
    """Return the tokenizers and text encoders of a folder, or None where it has none.

    Args:
        folder: of a module or a model, with ``text_encoder/``, ``tokenizer/`` and, for a second one, ``text_encoder_2/``, ``tokenizer_2/``.
        torch_dtype: of the encoders; float32 by default.

    Raises:
        SingDiffusionError: a file is missing or damaged.
    """
    parts = {end: folder / f"text_encoder{end}" for end in TEXT_PARTS}
    ends = [end for end, part in parts.items() if any(is_part(file.name) for file in part.glob("*"))]
    if not ends:
        return None
    encoders = [read_text_encoder(folder / f"text_encoder{end}", torch_dtype) for end in ends]
    return PromptEncoder([read_tokenizer(folder / f"tokenizer{end}") for end in ends], encoders)


def read_tokenizer(folder: Path) -> Any:
    """Return the CLIP tokenizer in a folder.

    Raises:
        SingDiffusionError: a file is missing or damaged.
    """
    from transformers import CLIPTokenizer

    for file in folder.glob("*.json"):
        read_json(file)
    with one_line_error(f"the tokenizer in {folder} cannot be read"):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    length = tokenizer.model_max_length
    if not isinstance(length, int | float) or isinstance(length, bool) or not length >= 1:
        raise SingDiffusionError(
            f"{folder}/tokenizer_config.json: model_max_length must be a number of at least 1, not {length!r:.40}"
        )
    return tokenizer


def read_text_encoder(folder: Path, torch_dtype: torch.dtype | None, weights: Path | None = None) -> Any:
    """Return the CLIP text encoder in a folder, frozen; of a whole CLIP model only its text encoder is read.

    Args:
        folder: with ``config.json``.
        torch_dtype: of the encoder; float32 by default.
        weights: their file, or the index of their shards; None: those in ``folder``.

    Raises:
        SingDiffusionError: it is another kind of model, or a file is missing or damaged.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    stored = read_json(folder / "config.json")
    kind = stored.get("model_type")
    if kind not in ("clip_text_model", "clip"):
        raise SingDiffusionError(f"the text encoder in {folder} is a {kind!s:.40}; modules use CLIP's")
    needed = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
        "vocab_size",
    )
    require_sizes(stored, folder / "config.json", needed)
    state = read_weights(weights or folder, TEXT_ENCODER, keep=_is_of_text)
    with building(f"the text encoder in {folder} cannot be read"):
        config = CLIPTextConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            require_no_larger(CLIPTextModel(config), state.values(), folder)
        require_memory_to_cast(state.values(), torch_dtype or torch.float32, folder)
        loaded: Any = CLIPTextModel.from_pretrained(
            None,
            config=config,
            state_dict=state,
            output_loading_info=True,
            **transformers_dtype(torch_dtype or torch.float32),
        )
    encoder, report = loaded
    require_complete(encoder, report, folder)
    require_finite(encoder, folder)
    return encoder.eval().requires_grad_(False)


def _is_of_text(key: str) -> bool:
    """Return whether a CLIP model's tensor belongs to its text encoder; projections are not used, positions are not weights."""
    others = ("vision_model.", "visual_projection.", "text_projection.", "logit_scale")
    return not key.startswith(others) and not key.endswith("position_ids")


def write(folder: Path, config: SingConfig, network: Any, text: PromptEncoder | None) -> None:
    """Write a module's folder, all of it or nothing. Other files in the folder of an older module stay.

    Raises:
        SingDiffusionError: ``folder`` exists and is not a module, or it cannot be written.
    """
    require_ours(folder)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SingDiffusionError(f"cannot write {folder}: {reason(error)}") from error
    with staged(folder, OWNED) as new:
        new.mkdir()
        network.save_pretrained(new / "module")
        if text is not None:
            _write_text(new, text)
        (new / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (new / CARD).write_bytes(_own_card(folder) or card.text(config, network, text).encode())
        for file in new.rglob("*.safetensors"):
            share(file)


def require_ours(folder: Path) -> None:
    """Check that a module may be written into a folder: it is missing, empty, or an older module, and can be written.

    Raises:
        SingDiffusionError: it is something else, or it cannot be made.
    """
    try:
        require_writable(folder)
        restored(folder)
        ours = not os.path.lexists(folder) or (folder / CONFIG).is_file() or not any(folder.iterdir())
    except (NotADirectoryError, FileNotFoundError):  # a file, or a link to nowhere
        ours = False
    except OSError as error:
        raise SingDiffusionError(f"cannot write {folder}: {reason(error)}") from error
    if not ours:
        raise SingDiffusionError(f"{folder} exists and is not a SingDiffusion module; choose another folder")


def _own_card(folder: Path) -> bytes | None:
    """Return an older module's card that somebody wrote; None where it is missing, or as ``save_pretrained`` left it."""
    file = folder / CARD
    found = file.read_bytes() if file.is_file() else b""
    return found if found and card.MARK.encode() not in found else None


def _write_text(folder: Path, text: PromptEncoder) -> None:
    for end, tokenizer, encoder in zip(TEXT_PARTS, text.tokenizers, text.text_encoders, strict=False):
        tokenizer.save_pretrained(folder / f"tokenizer{end}")
        encoder.save_pretrained(folder / f"text_encoder{end}")
        hub_vocabulary(folder / f"tokenizer{end}")
        hub_names(folder / f"text_encoder{end}")
