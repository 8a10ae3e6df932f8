"""Whether a base model's files hold every weight: otherwise diffusers leaves a weight empty, and transformers fills it with noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from typing import Any

import transformers
from safetensors import SafetensorError, safe_open
from torch import nn

from ..compat import missing_weights, small_memory, transformers_dtype
from ..errors import SingDiffusionError, one_line_error
from ..published.keys import PREFIX, original_name

# End of a name in the original layout -> what stands beside it. diffusers' own converters fail where only one of the two is there.
_BESIDE = {
    ".op.weight": ".op.bias",
    ".conv.weight": ".conv.bias",
    ".token_embedding.weight": ".position_embedding.weight",
}


def lacks(source: str, part: str, missing: Iterable[str]) -> SingDiffusionError:
    """Return the error of a model whose files lack weights.

    Args:
        source: the model.
        part: that has the weights, such as ``unet``; empty where it is not known.
        missing: their names.
    """
    first, *others = missing
    more = f" and {len(others)} more" if others else ""
    return SingDiffusionError(
        f"the model {source} lacks the weight {first}{more}{f' of its {part}' if part else ''}; take a complete copy",
        setting="model",
    )


def require_complete(parts: Mapping[str, Any], source: str, original: bool = False) -> None:
    """Check that every weight of a pipeline's parts was in the model's files.

    Args:
        parts: name -> part, as in ``pipe.components``.
        source: the model.
        original: whether its file has the original key layout; a U-Net's weight is then named as there.

    Raises:
        SingDiffusionError: a weight is missing.
    """
    for name, part in parts.items():
        weights = part.state_dict() if isinstance(part, nn.Module) else {}
        missing = [key for key, weight in weights.items() if weight.is_meta]
        if missing:
            if original and name == "unet":
                missing = [_in_the_file(key, part.config) for key in missing]
            raise lacks(source, name, missing)


def _in_the_file(key: str, unet: Mapping[str, Any]) -> str:
    with suppress(SingDiffusionError):
        return PREFIX + original_name(key, unet)
    return key


_PARTS = {"UNet2DConditionModel": "unet", "AutoencoderKL": "vae"}  # class -> its name in a pipeline


def require_complete_file(file: Path, error: BaseException | None) -> None:
    """Check whether a single file cannot be read because weights are missing.

    Args:
        file: in the original key layout.
        error: what diffusers raised. It moves a network to its device before it returns it, and cannot move an empty weight.

    Raises:
        SingDiffusionError: a weight is missing.
    """
    with suppress(SafetensorError, OSError):  # not even a file of weights
        _require_pairs(file)
    if isinstance(error, NotImplementedError) and "meta tensor" in str(error):
        for frame, _ in walk_tb(error.__traceback__):
            networks = [value for value in frame.f_locals.values() if isinstance(value, nn.Module)]
            for network in networks:
                kind = type(network).__name__
                require_complete({_PARTS.get(kind, kind): network}, str(file), original=True)


@contextmanager
def missing_named(source: str, part: str = "") -> Iterator[None]:
    """Name the weights of which an error of diffusers inside the block complains.

    Raises:
        SingDiffusionError: weights are missing; other errors pass unchanged.
    """
    try:
        yield
    except Exception as error:
        found = missing_weights(error)
        if not found:
            raise
        raise lacks(source, part, found) from error


def _require_pairs(file: Path) -> None:
    """Check a single file for weights whose absence diffusers' converters do not survive."""
    with safe_open(file, "pt") as content:
        names = set(content.keys())
    beside = {name.removesuffix(end) + other for name in names for end, other in _BESIDE.items() if name.endswith(end)}
    missing = sorted(beside - names)
    if missing:
        raise lacks(str(file), "", missing)


def network_class(source: Sequence[Any]) -> Any:
    """Return the class of a component that transformers loads, from model_index.json's [library, class]; None for any other.

    Libraries are transformers and those inside diffusers; other libraries' code is not run.
    """
    library, kind = source
    if not isinstance(library, str) or not isinstance(kind, str):
        return None
    with suppress(ImportError):
        home = transformers if library == "transformers" else import_module(f"diffusers.pipelines.{library}")
        found = getattr(home, kind, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    return None


def read_network(kind: Any, model: str, name: str, dtype: Any) -> Any:
    """Return a text encoder or another network of transformers, from a model in diffusers' layout.

    Args:
        kind: class.
        model: folder or hub id.
        name: of the component, which is also its folder.
        dtype: of its weights.

    Raises:
        SingDiffusionError: it cannot be read, or a weight is missing.
    """
    options = transformers_dtype(dtype) | small_memory()
    with one_line_error(f"the {name} of {model} cannot be read"):
        network, report = kind.from_pretrained(model, subfolder=name, output_loading_info=True, **options)
    if report["missing_keys"]:
        raise lacks(model, name, sorted(report["missing_keys"]))
    require_complete({name: network}, model)
    return network
