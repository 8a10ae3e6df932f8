"""One small real pipeline of every class in the plug-in's table, with random weights, and how to call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    LCMScheduler,
    MotionAdapter,
    PixArtTransformer2DModel,
    T2IAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
    VQModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from singdiffusion.plugin.pipelines import PIPELINES, UNTOUCHED

from ..conftest import SD15, TEXT_WIDTH, UNET_SIZE, make_text_encoder

SIDE = 16  # pixels; latents are 8 x 8
SDXL_WIDTH = 2 * TEXT_WIDTH  # two text encoders side by side
Parts = dict[str, Any]


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(**SD15, timestep_spacing="leading", steps_offset=1, clip_sample=False, set_alpha_to_one=False)


def _vae(scaling: float = 0.18215) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=scaling,
    ).eval()


def _sd(tokenizer: Any, in_channels: int = 4, **unet: Any) -> Parts:
    return {
        "vae": _vae(),
        "text_encoder": make_text_encoder(tokenizer),
        "tokenizer": tokenizer,
        "unet": UNet2DConditionModel(in_channels=in_channels, out_channels=4, **(UNET_SIZE | unet)).eval(),
        "scheduler": _scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


XL_UNET = {
    "cross_attention_dim": SDXL_WIDTH,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": TEXT_WIDTH + 6 * 8,
}


def second_encoder(tokenizer: Any, layers: int = 2) -> CLIPTextModelWithProjection:
    """A text encoder as SDXL's second one, with weights from torch's global generator."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=TEXT_WIDTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModelWithProjection(config).eval()


def _sdxl(tokenizer: Any, in_channels: int = 4) -> Parts:
    return {
        "vae": _vae(scaling=0.13025),
        "text_encoder": make_text_encoder(tokenizer),
        "text_encoder_2": second_encoder(tokenizer),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "unet": UNet2DConditionModel(in_channels=in_channels, out_channels=4, **(UNET_SIZE | XL_UNET)).eval(),
        "scheduler": _scheduler(),
    }


def _controlnet(**size: Any) -> ControlNetModel:
    net = {
        key: UNET_SIZE[key] for key in ("block_out_channels", "layers_per_block", "down_block_types", "norm_num_groups")
    }
    net |= {"cross_attention_dim": TEXT_WIDTH, "attention_head_dim": 2, "conditioning_embedding_out_channels": (8, 16)}
    return ControlNetModel(**(net | size)).eval()


def _adapter() -> T2IAdapter:
    return T2IAdapter(in_channels=3, channels=[16, 32], num_res_blocks=1, downscale_factor=2).eval()


def _motion(tokenizer: Any) -> Parts:
    unet = UNetMotionModel(
        in_channels=4,
        out_channels=4,
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        cross_attention_dim=TEXT_WIDTH,
        num_attention_heads=2,
        norm_num_groups=8,
        motion_num_attention_heads=2,
    ).eval()
    adapter = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_norm_num_groups=8, motion_num_attention_heads=2
    )
    parts = _sd(tokenizer)
    keep = ("vae", "text_encoder", "tokenizer", "scheduler")
    return {key: parts[key] for key in keep} | {"unet": unet, "motion_adapter": adapter}


def _pixart(tokenizer: Any) -> Parts:
    config = T5Config(vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_ff=32, d_kv=8, num_heads=2, num_layers=1)
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        sample_size=8,
        patch_size=2,
        caption_channels=TEXT_WIDTH,
        use_additional_conditions=False,
    ).eval()
    return {
        "tokenizer": tokenizer,
        "text_encoder": T5EncoderModel(config).eval(),
        "vae": _vae(),
        "transformer": transformer,
        "scheduler": _scheduler(),
    }


def _kandinsky(tokenizer: Any) -> Parts:
    unet = UNet2DConditionModel(
        **(
            UNET_SIZE
            | {
                "in_channels": 4,
                "out_channels": 8,
                "addition_embed_type": "image",
                "encoder_hid_dim": TEXT_WIDTH,
                "encoder_hid_dim_type": "image_proj",
                "time_embedding_dim": 64,
                "resnet_time_scale_shift": "scale_shift",
                "addition_embed_type_num_heads": 4,
            }
        )
    ).eval()
    movq = VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_type="spatial",
        vq_embed_dim=4,
        num_vq_embeddings=12,
    ).eval()
    return {"unet": unet, "scheduler": _scheduler(), "movq": movq}


def picture(level: int = 200) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), (level, level // 2, 40))


def _embeds(seed: int) -> torch.Tensor:
    return torch.randn(1, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))


MASKED = {"image": picture(), "mask_image": picture(255), "strength": 1.0}
KEPT = {"height": SIDE, "width": SIDE}

# class -> (components, further arguments of a call)
Maker = Callable[[Any], Parts]
ZOO: dict[str, tuple[Maker, Parts]] = {
    "StableDiffusionPipeline": (_sd, {}),
    "StableDiffusionControlNetPipeline": (
        lambda t: _sd(t) | {"controlnet": _controlnet()},
        {"image": picture()},
    ),
    "StableDiffusionPAGPipeline": (_sd, {"pag_scale": 3.0}),
    "StableDiffusionControlNetPAGPipeline": (
        lambda t: _sd(t) | {"controlnet": _controlnet()},
        {"image": picture(), "pag_scale": 3.0},
    ),
    "StableDiffusionAdapterPipeline": (lambda t: _sd(t) | {"adapter": _adapter()}, {"image": picture()}),
    "StableDiffusionInpaintPipeline": (_sd, MASKED | KEPT),
    "StableDiffusionControlNetInpaintPipeline": (
        lambda t: _sd(t) | {"controlnet": _controlnet()},
        MASKED | KEPT | {"control_image": picture()},
    ),
    "LatentConsistencyModelPipeline": (
        lambda t: _sd(t, time_cond_proj_dim=8) | {"scheduler": LCMScheduler(**SD15)},
        {"original_inference_steps": 50},
    ),
    "StableDiffusionXLPipeline": (_sdxl, KEPT),
    "StableDiffusionXLControlNetPipeline": (
        lambda t: _sdxl(t) | {"controlnet": _controlnet(**XL_UNET)},
        KEPT | {"image": picture()},
    ),
    "StableDiffusionXLPAGPipeline": (_sdxl, KEPT | {"pag_scale": 3.0}),
    "StableDiffusionXLAdapterPipeline": (lambda t: _sdxl(t) | {"adapter": _adapter()}, KEPT | {"image": picture()}),
    "StableDiffusionXLInpaintPipeline": (_sdxl, MASKED | KEPT),
    "AnimateDiffPipeline": (_motion, KEPT | {"num_frames": 3}),
    "PixArtAlphaPipeline": (_pixart, KEPT | {"use_resolution_binning": False, "max_sequence_length": 16}),
    "PixArtSigmaPipeline": (_pixart, KEPT | {"use_resolution_binning": False, "max_sequence_length": 16}),
    "KandinskyV22Pipeline": (
        _kandinsky,
        KEPT | {"image_embeds": _embeds(1), "negative_image_embeds": _embeds(2)},
    ),
}
assert set(ZOO) == set(PIPELINES), "every pipeline of the table has one here"

# the same classes with other parts
ZOO_MORE: dict[str, tuple[str, Maker, Parts]] = {
    "inpainting U-Net of 9 channels": (
        "StableDiffusionInpaintPipeline",
        lambda t: _sd(t, in_channels=9),
        MASKED | KEPT,
    ),
    "two ControlNets": (
        "StableDiffusionControlNetPipeline",
        lambda t: _sd(t) | {"controlnet": [_controlnet(), _controlnet()]},
        {"image": [picture(), picture(90)], "controlnet_conditioning_scale": [1.0, 0.5]},
    ),
}


def build(name: str, tokenizer: Any) -> tuple[Any, Parts]:
    """A pipeline of the zoo and the further arguments of a call of it."""
    class_name, maker, options = ZOO_MORE[name] if name in ZOO_MORE else (name, *ZOO[name])
    torch.manual_seed(0)
    pipe = getattr(diffusers, class_name)(**maker(tokenizer))
    pipe.set_progress_bar_config(disable=True)
    return pipe, dict(options)


def build_untouched(name: str, tokenizer: Any) -> Any:
    """A pipeline that starts from a picture, where its parts are those of a Stable Diffusion."""
    assert name in UNTOUCHED
    pipe = getattr(diffusers, name)(**(_sdxl(tokenizer) if "XL" in name else _sd(tokenizer)))
    pipe.set_progress_bar_config(disable=True)
    return pipe
