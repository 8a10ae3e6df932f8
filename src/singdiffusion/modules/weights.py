"""Weights of a network: read from any file that diffusers writes, checked, and put into the network.

Networks are built from their configuration and filled here rather than by ``from_pretrained``, whose checks and messages differ between
versions of diffusers.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..compat import require_safe_pickle
from ..errors import SingDiffusionError, one_line_error
from ..reading import read_json

Stems = Mapping[str, str]
"""Ending of a file -> the beginning of its name."""

NETWORK: Stems = {"safetensors": "diffusion_pytorch_model", "bin": "diffusion_pytorch_model"}
TEXT_ENCODER: Stems = {"safetensors": "model", "bin": "pytorch_model"}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def read_weights(
    source: Path, stems: Stems = NETWORK, keep: Callable[[str], bool] = lambda key: True
) -> dict[str, Tensor]:
    """Return the tensors of a file, or of the weights in a folder, mapped from disk where the format allows it.

    No code in a file is run: pickles are read with ``weights_only``.

    Args:
        source: a file, the index of shards, or a folder with one of these (``choose_weights``).
        stems: of the names of files.
        keep: key -> whether this tensor is read.

    Raises:
        SingDiffusionError: there are no weights, or a file is missing, damaged, or holds something else.
    """
    if not source.is_file():
        names = [file.name for file in source.iterdir() if file.is_file()] if source.is_dir() else []
        source = source / choose_weights(names, source, stems)
    files = shards(source) if source.suffix == ".json" else [source]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise SingDiffusionError(f"{source.parent} lacks {missing[0]:.80}, which {source.name} names")
    weights: dict[str, Tensor] = {}
    for file in files:
        with one_line_error(f"the weights in {file} cannot be read (missing or damaged)"):
            read = load_file(file) if file.suffix == ".safetensors" else _read_pickle(file)
        read = {key: value for key, value in read.items() if keep(key)}
        _require_plain(read, file)
        weights |= read
    return weights


def choose_weights(
    names: Collection[str], where: Any, stems: Stems = NETWORK, variant: str | None = None, half: bool = False
) -> str:
    """Return the name of the file with a network's weights, or of the index of its shards.

    Safetensors come before pickles. Then plain files come before the fp16 variant, or after it where half precision is wanted.

    Args:
        names: of all files of the network's folder.
        where: that folder, for messages.
        stems: of the names of files.
        variant: only this one counts, such as "fp16".
        half: whether the weights will be used in half precision.

    Raises:
        SingDiffusionError: there are no weights, or none of this variant.
    """
    order = [f".{variant}"] if variant else [".fp16", ""] if half else ["", ".fp16"]
    wanted = [f"{stem}{each}.{kind}" for kind, stem in stems.items() for each in order]
    for name in wanted:
        for candidate in (name, *_indices(name)):
            if candidate in names:
                return candidate
    raise SingDiffusionError(
        f"{where} has no weights{f' of the variant {variant}' if variant else ''}; "
        f"it needs one of {', '.join(wanted)}, or one of these in shards with its .index.json"
    )


def _require_plain(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise SingDiffusionError if a tensor is not of dense floating-point numbers, each of which is stored."""
    for key, value in weights.items():
        dense = value.is_floating_point() and value.layout == torch.strided and not value.is_nested
        plain = dense and not value.is_meta and not value.is_quantized and type(value) in (Tensor, torch.nn.Parameter)
        if not plain:
            kind = "without data" if value.is_meta else f"{value.dtype}, {value.layout}"
            raise SingDiffusionError(
                f"{file} holds no usable weights: {key} is {kind}; they must be dense floating-point numbers"
            )
        if value.numel() * value.itemsize > value.untyped_storage().nbytes():
            raise SingDiffusionError(f"{file} holds no usable weights: {key} repeats the numbers that it stores")


def require_whole(files: Iterable[Path]) -> None:
    """Check that files of weights are not cut off, by their headers alone; files of other kinds count as whole.

    Raises:
        SingDiffusionError: one is missing or damaged.
    """
    for file in files:
        with one_line_error(f"the weights in {file} cannot be read (missing or damaged)"):
            if file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
            elif file.suffix == ".bin" and _is_zip(file) and not zipfile.is_zipfile(file):
                raise SingDiffusionError(f"the weights in {file} cannot be read: the file is cut off")


def shards(index: Path) -> list[Path]:
    """Return the files that an index names, all in its folder and of its format.

    Raises:
        SingDiffusionError: the index cannot be read, or names something else.
    """
    suffix = ".safetensors" if ".safetensors." in index.name else ".bin"
    mapped = read_json(index).get("weight_map")
    if not isinstance(mapped, dict) or not mapped:
        raise SingDiffusionError(f"{index} has no weight_map, which names the file of each weight")
    for name in mapped.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(suffix):
            raise SingDiffusionError(
                f"{index} names the file {name!r:.80}; it must be a {suffix} file in the same folder"
            )
    return [index.parent / name for name in sorted(set(mapped.values()))]


def _indices(name: str) -> list[str]:
    """Return the names of an index that diffusers writes: for a variant since 0.31, and before."""
    stem, *variant, kind = name.split(".")
    return [".".join([stem, kind, "index", *variant, "json"]), ".".join([stem, kind, *variant, "index", "json"])]


def _read_pickle(file: Path) -> dict[str, Tensor]:
    require_safe_pickle(file)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except pickle.UnpicklingError as error:
        raise SingDiffusionError(
            f"{file} holds more than weights, or is damaged; it is not read because it could run code"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise SingDiffusionError(f"{file} holds no table of weights")
    return loaded


def _is_zip(file: Path) -> bool:
    """Return whether a file is a zip archive, which can be mapped; files of torch before 1.6 are not."""
    with file.open("rb") as opened:
        return opened.read(2) == b"PK"


def load_weights(network: torch.nn.Module, weights: Mapping[str, Tensor], where: Any) -> None:
    """Copy weights into a network. A network on the meta device takes the tensors themselves, with their dtype.

    Args:
        network: its weights are replaced.
        weights: by name.
        where: their origin, for messages.

    Raises:
        SingDiffusionError: a weight is missing, unexpected, or of another shape.
    """
    require_fit(network, weights, where)
    expected = network.state_dict()
    on_meta = any(value.is_meta for value in expected.values())
    network.load_state_dict({key: weights[key].contiguous() for key in expected}, assign=on_meta)


def require_fit(network: torch.nn.Module, weights: Mapping[str, Tensor], where: Any) -> None:
    """Check that weights are those of a network, by names and shapes. Arguments as for ``load_weights``.

    Raises:
        SingDiffusionError: a weight is missing, unexpected, or of another shape.
    """
    expected = network.state_dict()
    _require_same_names(set(expected) - set(weights), set(weights) - set(expected), where)
    for key, value in expected.items():
        if weights[key].shape != value.shape:
            raise SingDiffusionError(
                f"the weights in {where} do not match its config.json: {key} has shape {tuple(weights[key].shape)}, "
                f"and its configuration needs {tuple(value.shape)}"
            )


def require_complete(network: Any, report: Any, where: Any) -> None:
    """Raise SingDiffusionError if weights were missing, which loaders fill with noise, or belong to another network.

    Args:
        network: as transformers loaded it.
        report: its loading information.
        where: the folder, for messages.
    """
    missing = list(report["missing_keys"]) or [key for key, value in network.state_dict().items() if value.is_meta]
    _require_same_names(missing, report["unexpected_keys"], where)


def _require_same_names(missing: Collection[str], unexpected: Collection[str], where: Any) -> None:
    """Raise SingDiffusionError if names of weights are missing, or are unexpected."""
    if missing:
        raise SingDiffusionError(f"the weights in {where} lack {len(missing)} tensors, such as {min(missing)}")
    if unexpected:
        raise SingDiffusionError(
            f"the weights in {where} do not match its config.json: {min(unexpected)} has no place in that network"
        )


def require_finite(network: torch.nn.Module, where: Any) -> None:
    """Raise SingDiffusionError, naming the tensor, if a weight is NaN or infinite."""
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise SingDiffusionError(f"the weights in {where} are damaged: {key} has NaN or infinite values")
