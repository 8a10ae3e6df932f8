"""``TimeFreeUNet``: the paper's network, a text-conditional U-Net without time input, fitted to E[x_0 | prompt] at t = 1.

The paper is Zhang, Yin, Li and Xie, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR
2024, arXiv 2403.08381; the network is in section 4.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..errors import SingDiffusionError
from .config import network_options
from .limits import building, require_sizes, require_types
from .weights import load_weights


class _NoTime(nn.Module):
    """Takes the place of the time embedding; has no weights."""

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> None:
        """Return None, with which diffusers' blocks add no time."""


class TimeFreeUNet(UNet2DConditionModel):
    """A ``UNet2DConditionModel`` without time embedding. It takes the same options, except those that need one.

    It is a diffusers model, with ``from_pretrained``, ``save_pretrained``, ``push_to_hub``, gradient checkpointing, attention
    processors and PEFT adapters. ``from_pretrained`` also loads a full Stable Diffusion U-Net and the layout in which
    SingDiffusion was published, and skips their weights of the time embedding.

    Raises:
        SingDiffusionError: an option acts through the time embedding: class or addition embeddings, ``time_cond_proj_dim``, or a
            ``resnet_time_scale_shift`` other than ``default``.
    """

    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012  (diffusers declares it so)
        r"^time_embedding\.",
        r"\.time_emb_proj\.",
        r"^add_embedding\.",
        r"^class_embedding\.",
    ]

    # diffusers finds the options by this signature: without `wraps`, from_config would silently build the default network
    @functools.wraps(UNet2DConditionModel.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _refuse_time_options(self.config)
        self.time_embedding = _NoTime()
        for module in self.modules():
            if isinstance(module, ResnetBlock2D):
                module.time_emb_proj = None

    def predict(self, x_1: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Return y_bar = f(x_1, prompt), the estimate of E[x_0 | prompt], in the base's scaled latents.

        Args:
            x_1: noise, shape (B, C, H, W).
            prompt_embeds: the text encoder's last hidden states, shape (B, L, D).

        Returns:
            Shape (B, C, H, W), in the dtype of ``x_1``.
        """
        return self(x_1, torch.zeros((), device=x_1.device), prompt_embeds).sample

    @classmethod
    def empty(cls, config: Mapping[str, Any], where: Any) -> TimeFreeUNet:
        """Return the network of a configuration on the meta device, without weights.

        Args:
            config: as in ``config.json``; keys that this version of diffusers does not have are ignored.
            where: its origin, for messages.

        Raises:
            SingDiffusionError: the configuration makes no U-Net, or one that needs a time embedding.
        """
        require_sizes(config, f"the configuration in {where}", _NEEDED)
        require_types(UNet2DConditionModel, config, f"the configuration in {where}")
        with building(f"the configuration in {where} makes no U-Net"), torch.device("meta"):
            return cls.from_config(network_options(config))

    def take_weights(self, weights: Mapping[str, Tensor], where: Any) -> None:
        """Copy published weights into the network. Those of an unused time embedding, which the authors' file has, are skipped.

        Args:
            weights: by name.
            where: their origin, for messages.

        Raises:
            SingDiffusionError: they are a denoiser's, or a weight is missing, unexpected, or of another shape.
        """
        if any(".time_emb_proj." in key or ".emb_layers." in key for key in weights):
            raise SingDiffusionError(f"{where} is a denoiser, which takes the time; a module has no time input")
        load_weights(self, {key: value for key, value in weights.items() if not key.startswith(_UNUSED)}, where)

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel) -> TimeFreeUNet:
        """Return a module that starts from a base's denoiser, with all its weights except those of the time embedding.

        Raises:
            SingDiffusionError: a weight that the module needs is missing in ``unet`` or of another shape.
        """
        without_time = dict.fromkeys(_TIME_OPTIONS) | {"resnet_time_scale_shift": "default"}
        module = cls.from_config(network_options(unet.config) | without_time)
        theirs, ours = unet.state_dict(), module.state_dict()
        unfit = [key for key, value in ours.items() if key not in theirs or theirs[key].shape != value.shape]
        if unfit:
            raise SingDiffusionError(f"the U-Net cannot start this module: {unfit[0]} is missing or of another shape")
        module.load_state_dict({key: theirs[key] for key in ours})
        return module.to(unet.dtype)


_NEEDED = ("in_channels", "out_channels", "block_out_channels", "layers_per_block", "transformer_layers_per_block",
           "down_block_types", "up_block_types", "attention_head_dim", "conv_in_kernel", "conv_out_kernel", "norm_eps", "dropout",
           "downsample_padding", "mid_block_scale_factor")  # fmt: skip
_UNUSED = ("time_embedding.", "time_embed.")  # in diffusers' layout and in the original one
_TIME_OPTIONS = ("addition_embed_type", "class_embed_type", "num_class_embeds", "time_cond_proj_dim")


def _refuse_time_options(config: Any) -> None:
    """Raise SingDiffusionError for an option that acts through the time embedding."""
    for option in _TIME_OPTIONS:
        if config.get(option) is not None:
            raise SingDiffusionError(
                f"TimeFreeUNet has no time embedding, on which {option}={config[option]!r} would act"
            )
    if config.get("resnet_time_scale_shift", "default") != "default":
        raise SingDiffusionError("TimeFreeUNet has no time embedding: resnet_time_scale_shift must be 'default'")
