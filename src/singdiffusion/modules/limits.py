"""Limits of networks that configurations of others describe, so that an absurd one is one line before it takes time or memory.

Three checks, each for every network: of the numbers in its configuration; of the weights while it is built, because a product of
small numbers can be large; and of its size against the weights in its files.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import SingDiffusionError, one_line_error
from ..memory import require_memory

MOST_WEIGHTS = 10_000  # tensors of a network; SDXL's U-Net has 1680
LARGE = 2**28  # bytes of one weight, from which on they are compared with the free memory
_LAYERS, _SIDE, _NUMBER, _ANY = (
    1000,
    2**16,
    2**20,
    2**31,
)  # the most of layers, of a side of latents, of sizes, and of any key

# Key -> (least, most) of a whole number, or of each in a list, at any depth of a config.json. null is left to the network.
_SIZES = {
    "num_hidden_layers num_layers num_single_layers num_decoder_layers layers_per_block layers": (1, _LAYERS),
    "transformer_layers_per_block": (0, _LAYERS),  # 0 for blocks without attention
    "sample_size pos_embed_max_size grid": (1, _SIDE),
    "covariance_grid": (0, _SIDE),
    "in_channels out_channels latent_channels block_out_channels cross_attention_dim attention_head_dim num_attention_heads "
    "norm_num_groups patch_size conv_in_kernel conv_out_kernel caption_channels joint_attention_dim pooled_projection_dim "
    "hidden_size intermediate_size vocab_size max_position_embeddings d_model d_ff d_kv num_heads width": (1, _NUMBER),
}
_SIZE_OF = {key: bounds for keys, bounds in _SIZES.items() for key in keys.split()}
_ONE = ("num_hidden_layers", "in_channels", "out_channels", "latent_channels", "norm_num_groups", "hidden_size",
        "intermediate_size", "vocab_size", "max_position_embeddings")  # fmt: skip  # of which a list is a mistake
_FACTORS = ("norm_eps", "layer_norm_eps", "layer_norm_epsilon", "mid_block_scale_factor", "scaling_factor")  # above 0
_TEXTS = ("down_block_types", "up_block_types", "hidden_act", "act_fn")


def require_sizes(config: Mapping[str, Any], where: Any, needed: Iterable[str] = ()) -> None:
    """Check the numbers of a network's ``config.json``, whatever its class.

    Args:
        config: its contents.
        where: its origin, for messages.
        needed: keys that must not be null.

    Raises:
        SingDiffusionError: a size is no positive whole number, or is larger than in any network.
    """
    for key in needed:
        if key in config and config[key] is None:
            raise SingDiffusionError(f"{where}: {key} must not be null")
    for key, value in config.items():
        _require_size(key, value, where)


def _require_size(key: str, value: Any, where: Any) -> None:
    if isinstance(value, Mapping):
        require_sizes(value, where)
    elif isinstance(value, list | tuple) and key not in _ONE:
        for each in value:
            _require_size(key, each, where)
    elif value is not None:
        right = right_size(key, value)
        if right:
            raise SingDiffusionError(f"{where}: {key:.80} must be {right}, not {value!r:.40}")


def right_size(key: str, value: Any) -> str | None:
    """Return in words what the value of a key must be, or None where it is that."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in _SIZE_OF:
        least, most = _SIZE_OF[key]
        fits = number and isinstance(value, int) and least <= value <= most
        return None if fits else f"a whole number within {least}..{most}"
    if key in _FACTORS:
        return None if number and 0 < value < math.inf else "a number above 0"
    if key in _TEXTS:
        return None if isinstance(value, str) else "text"
    return f"within -{_ANY}..{_ANY}" if number and isinstance(value, int) and abs(value) > _ANY else None


def require_types(kind: Any, config: Mapping[str, Any], where: Any) -> None:
    """Check that options have the types of their defaults, where these are text, numbers, or true or false.

    Args:
        kind: class of diffusers that takes them.
        config: options; null, lists of numbers, which may be per block, and unknown keys are left to the class.
        where: their origin, for messages.

    Raises:
        SingDiffusionError: one has another type.
    """
    for key, parameter in inspect.signature(kind.__init__).parameters.items():
        right = right_type(config.get(key), parameter.default)
        if right:
            raise SingDiffusionError(f"{where}: {key} must be {right}, not {config[key]!r:.40}")


def right_type(value: Any, default: Any) -> str | None:
    """Return in words what an option with this default must be, or None where it is that, null, or left to its class."""
    if value is None or (isinstance(value, list | tuple) and isinstance(default, int) and value):
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return None if isinstance(value, str) else "text"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if isinstance(default, int | float) and not number else None


@contextmanager
def building(what: str, most: int = MOST_WEIGHTS) -> Iterator[None]:
    """Count the weights of the networks that are built inside the block, by any library, and turn other errors into one line.

    Args:
        what: prefix of the line, such as "the configuration in X makes no U-Net".
        most: tensors.

    Raises:
        SingDiffusionError: there are more, one of them exceeds the free memory, or a library raised.
    """
    count = 0

    def registered(module: nn.Module, name: str, weight: Tensor | None) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise SingDiffusionError(f"{what}: it would have more than {most} weights")
        if weight is not None and not weight.is_meta and weight.numel() * weight.itemsize > LARGE:
            require_memory(weight.numel() * weight.itemsize, f"{what}: its weight {name}")

    hook = register_module_parameter_registration_hook(registered)
    try:
        with one_line_error(what):
            yield
    finally:
        hook.remove()


def require_no_larger(network: nn.Module, weights: Iterable[Tensor], where: Any) -> None:
    """Check that a network, on the meta device, is not far larger than the weights in its files.

    Raises:
        SingDiffusionError: it has more than twice as many numbers.
    """
    needed, stored = (sum(each.numel() for each in tensors) for tensors in (network.parameters(), weights))
    if needed > 2 * stored:
        raise SingDiffusionError(
            f"the weights in {where} do not match its config.json: they are {stored} numbers, and its configuration needs {needed}"
        )


def require_memory_to_cast(weights: Iterable[Tensor], dtype: Any, where: Any) -> None:
    """Check that the memory suffices for the weights of another dtype. Those that keep theirs stay in their file, mapped.

    Args:
        weights: as read.
        dtype: of the network; None: as they are.
        where: their origin, for messages.

    Raises:
        SingDiffusionError: it does not suffice.
    """
    needed = sum(each.numel() * dtype.itemsize for each in weights if each.dtype != dtype) if dtype else 0
    require_memory(needed, f"the network in {where} as {str(dtype).removeprefix('torch.')}")
