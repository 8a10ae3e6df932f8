"""Stable Diffusion as a single file in the original key layout, as community models are shared."""

import re
from typing import Any

from singdiffusion.published.keys import PREFIX, original_name

VAE, TEXT = "first_stage_model.", "cond_stage_model.transformer.text_model."


def original_weights(pipe: Any) -> dict[str, Any]:
    """A pipeline's weights by their names in the original layout."""
    levels = len(pipe.vae.config.block_out_channels)
    weights = {PREFIX + _unet_key(k, pipe.unet.config): v for k, v in pipe.unet.state_dict().items()}
    weights |= {VAE + _vae_key(k, levels): v for k, v in pipe.vae.state_dict().items()}
    text = {k.removeprefix("text_model."): v for k, v in pipe.text_encoder.state_dict().items()}
    weights |= {TEXT + k: v for k, v in text.items()}
    return {k: v.contiguous() for k, v in weights.items()}


def _vae_key(key, levels):
    """A weight of AutoencoderKL in the original key layout."""
    key = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", key.replace("down_blocks.", "down."))
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    for ours, theirs in (
        (".resnets.", ".block."), (".downsamplers.0.", ".downsample."), (".upsamplers.0.", ".upsample."),
        ("mid_block.attentions.0", "mid.attn_1"), ("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut"),
        ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"),
    ):  # fmt: skip
        key = key.replace(ours, theirs)
    return key


def _unet_key(key, config):
    for ours, theirs in (("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2")):
        if key.startswith(ours):
            return key.replace(ours, theirs)
    return original_name(key, config).replace("time_emb_proj", "emb_layers.1")
