"""Names of a U-Net's weights in the original Stable Diffusion code, which single files use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import SingDiffusionError

PREFIX = "model.diffusion_model."

_INNER = {  # of a ResnetBlock2D
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
_ENDS = {"conv_in.": "input_blocks.0.0.", "conv_norm_out.": "out.0.", "conv_out.": "out.2."}
_BLOCK = re.compile(
    r"(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)


def original_name(key: str, unet: Mapping[str, Any]) -> str:
    """Return the original name of a weight. The original code numbers the layers of all blocks consecutively.

    Args:
        key: diffusers' name.
        unet: configuration of the U-Net.

    Raises:
        SingDiffusionError: the weight has no name in the original layout.
    """
    for ours, theirs in _ENDS.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    match = _BLOCK.fullmatch(key)
    per_block = unet.get("layers_per_block", 2)
    if match is None or not isinstance(per_block, int):
        raise SingDiffusionError(f"{key} has no name in the original key layout")
    part, block, kind, layer, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    if kind == "resnets":
        rest = next(
            (theirs + rest.removeprefix(ours) for ours, theirs in _INNER.items() if rest.startswith(ours)), rest
        )
    column = {"resnets": 0, "attentions": 1, "downsamplers": 0, "upsamplers": 1}[kind]
    row = (per_block + 1) * block + layer
    if part == "mid_block":
        return f"middle_block.{2 * layer if kind == 'resnets' else 1}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(per_block + 1) * (block + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        attends = "CrossAttn" in _up_blocks(unet)[block]
        return f"output_blocks.{(per_block + 1) * block + per_block}.{column + attends}.{rest}"
    side, row = ("input_blocks", row + 1) if part == "down_blocks" else ("output_blocks", row)
    return f"{side}.{row}.{column}.{rest}"


def _up_blocks(unet: Mapping[str, Any]) -> list[str]:
    """Return the types of the up blocks, by default Stable Diffusion's."""
    default = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
    return list(unet.get("up_block_types", default))
