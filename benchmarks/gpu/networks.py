"""The networks that are measured: those of SD-1.5 and SDXL at full size, or tiny ones, with random weights."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from singdiffusion.modules import MeanDecoder, SingConfig, SingModule, TimeFreeUNet
from singdiffusion.painting.bases import load_text

from .cost_model import SD15, SDXL, TOKENS

TEXT_KINDS = (CLIPTextModel, CLIPTextModelWithProjection)  # of the first text encoder and of the second
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@dataclass(frozen=True, eq=False)
class Model:
    """The sizes of a base model and of a decoder for it.

    Attributes:
        name: of the base.
        pixels: height and width of its pictures.
        unet, text, vae: options of its U-Net, of each text encoder and of its VAE.
        decoder: options of a ``MeanDecoder``, among them ``preset``.
        scaling: of the latents.
        added: options of the base U-Net's additional embedding (SDXL), which a time-free U-Net does not have.
    """

    name: str
    pixels: int
    unet: dict[str, Any]
    text: list[dict[str, Any]]
    decoder: dict[str, Any]
    vae: dict[str, Any]
    scaling: float
    added: dict[str, Any] = field(default_factory=dict)

    @property
    def side(self) -> int:
        """Height and width of the latents."""
        return self.pixels // 8

    @property
    def width(self) -> int:
        """Width of the prompt embeddings."""
        return sum(spec["hidden_size"] for spec in self.text)

    @property
    def pooled(self) -> int:
        """Width of the pooled embedding."""
        return self.text[-1]["projection_dim"]


def _added(pooled: int, width: int) -> dict[str, Any]:
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": width,
        "projection_class_embeddings_input_dim": pooled + 6 * width,
    }


_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
FULL = [
    Model(SD15.name, SD15.pixels, SD15.unet, SD15.text, {"preset": "sd15"}, _VAE, 0.18215),
    Model(SDXL.name, SDXL.pixels, SDXL.unet, SDXL.text, {"preset": "sdxl"}, _VAE, 0.13025, _added(1280, 256)),
]

_SMALL_VAE = _VAE | {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
_SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
               "projection_dim": 32, "hidden_act": "quick_gelu"}  # fmt: skip
_SMALL_UNET = {
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
_SMALL_DECODER = {"preset": "tiny", "width": 16}
SMALL = [
    Model("SD-1.5", 128, _SMALL_UNET, [_SMALL_TEXT], _SMALL_DECODER, _SMALL_VAE, 0.18215),
    Model("SDXL", 128, _SMALL_UNET, [_SMALL_TEXT] * 2, _SMALL_DECODER, _SMALL_VAE, 0.13025, _added(32, 8)),
]


def with_random_weights(kind: Any, dtype: torch.dtype, device: torch.device, *args: Any, **options: Any) -> Any:
    """Return a frozen network with small random weights; its own initialisation would take minutes."""
    with torch.device("meta"):
        network = kind(*args, **options)
    network = network.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.normal_(0, 0.02)
        for name, tensor in network.named_buffers():
            if name.endswith("position_ids"):
                tensor.copy_(torch.arange(tensor.shape[-1])[None])
    return network.eval().requires_grad_(False)


def base_unet(model: Model, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the base's U-Net."""
    options = model.unet | model.added
    return with_random_weights(
        UNet2DConditionModel, dtype, device, sample_size=model.side, cross_attention_dim=model.width, **options
    )


def vae(model: Model, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the base's VAE."""
    return with_random_weights(
        AutoencoderKL, dtype, device, latent_channels=4, scaling_factor=model.scaling, **model.vae
    )


def text_encoders(model: Model, dtype: torch.dtype, device: torch.device) -> list[Any]:
    """Return the base's text encoders."""
    return [
        with_random_weights(kind, dtype, device, CLIPTextConfig(**spec))
        for kind, spec in zip(TEXT_KINDS, model.text, strict=False)
    ]


@functools.cache
def tokenizer() -> Any:
    """Return the embedded model's tokenizer, with the length of Stable Diffusion's; always the same object."""
    (tokenizer,), _ = load_text("tiny", torch.float32)
    tokenizer.model_max_length = TOKENS
    return tokenizer


def decoder(model: Model, **changes: Any) -> MeanDecoder:
    """Return a fresh decoder with the 4 x 4 covariance, float32."""
    options = {"cross_attention_dim": model.width, "covariance_grid": 4} | model.decoder | changes
    return MeanDecoder.preset(options.pop("preset"), **options)


def decoder_module(model: Model, device: torch.device) -> SingModule:
    """Return a decoder as a module, always with the same weights."""
    torch.manual_seed(0)
    return _module(decoder(model).eval().requires_grad_(False).to(device), model)


def unet_module(model: Model, dtype: torch.dtype, device: torch.device) -> SingModule:
    """Return a time-free U-Net, the paper's network, as a module."""
    network = with_random_weights(
        TimeFreeUNet, dtype, device, sample_size=model.side, cross_attention_dim=model.width, **model.unet
    )
    return _module(network, model)


def _module(network: Any, model: Model) -> SingModule:
    config = SingConfig(latent_channels=4, vae_scaling_factor=model.scaling, text_width=model.width)
    return SingModule(network, config)


def pipeline(model: Model, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the base's pipeline without its text encoders: calls take prompt embeddings."""
    unet, autoencoder = base_unet(model, dtype, device), vae(model, dtype, device)
    scheduler = DDIMScheduler(**SCHEDULE)
    if model.added:
        pipe: Any = StableDiffusionXLPipeline(
            autoencoder, None, None, None, None, unet, scheduler, add_watermarker=False
        )
    else:
        pipe = StableDiffusionPipeline(
            autoencoder, None, None, unet, scheduler, None, None, requires_safety_checker=False
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe
