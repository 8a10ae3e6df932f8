"""Whether a module and a pipeline have the same latent space and the same text."""

from __future__ import annotations

from typing import Any

from ..errors import SingDiffusionError
from ..modules import SingConfig, SingModule
from ..modules.config import Latents
from ..modules.text import PromptEncoder, same_encoders
from ..published.base import SD_LATENTS, SDXL_LATENTS
from .pipelines import PipelineSpec


def latents_of(pipe: Any, spec: PipelineSpec) -> Latents | None:
    """Return a pipeline's latent space, or None where it cannot be known: without a VAE, when decoding is done elsewhere.

    A small autoencoder (TAESD) works on scaled latents, so its own factor is 1 whatever the latent space. Then the U-Net decides: SDXL's
    takes sizes and pooled text beside the time.
    """
    vae = getattr(pipe, spec.autoencoder)
    if vae is None:
        return None
    if type(vae).__name__ == "AutoencoderTiny":
        if vae.config.latent_channels != SD_LATENTS.channels:
            return None
        is_sdxl = getattr(pipe, spec.denoiser).config.get("addition_embed_type") == "text_time"
        return SDXL_LATENTS if is_sdxl else SD_LATENTS
    scaling = vae.config.scaling_factor if spec.scaled else 1.0
    return Latents(vae.config.latent_channels, scaling, vae.config.get("shift_factor") or 0.0)


def require_latents(pipe: Any, spec: PipelineSpec, config: SingConfig) -> None:
    """Raise SingDiffusionError if the pipeline's latents are not those of the module."""
    mine, theirs = config.latents, latents_of(pipe, spec)
    # without a VAE the denoiser counts; an inpainting U-Net has more channels than the latents
    channels = getattr(pipe, spec.denoiser).config.in_channels if theirs is None else theirs.channels
    if channels != mine.channels:
        raise SingDiffusionError(
            f"the module is for latents of {mine.channels} channels, the pipeline's have {channels}"
        )
    if theirs is None or mine.same(theirs):
        return
    what = "scaling" if not mine.same(theirs._replace(shift=mine.shift)) else "shift"
    raise SingDiffusionError(
        f"the module is for another latent space: VAE {what} factor {getattr(mine, what):g}, the pipeline's is "
        f"{getattr(theirs, what):g}"
    )


def text_width(pipe: Any, spec: PipelineSpec) -> int:
    """Return the width of a pipeline's prompt embeddings."""
    denoiser = getattr(pipe, spec.denoiser).config
    return denoiser.get("caption_channels") or denoiser.cross_attention_dim


def text_encoders(pipe: Any) -> list[Any]:
    """Return a pipeline's text encoders, without those that were removed."""
    encoders = [getattr(pipe, name, None) for name in ("text_encoder", "text_encoder_2")]
    return [each for each in encoders if each is not None]


def prompt_encoder_of(pipe: Any) -> PromptEncoder | None:
    """Return a pipeline's tokenizers and text encoders, or None where some were removed."""
    tokenizers = [getattr(pipe, name, None) for name in ("tokenizer", "tokenizer_2")]
    tokenizers, encoders = [each for each in tokenizers if each is not None], text_encoders(pipe)
    return PromptEncoder(tokenizers, encoders) if encoders and len(tokenizers) == len(encoders) else None


def shares_text(pipe: Any, spec: PipelineSpec, module: SingModule) -> bool:
    """Return whether the pipeline's embeddings serve the module; False: the module encodes prompts with its own encoders.

    Raises:
        SingDiffusionError: they do not, and the module has no text encoder.
    """
    width = text_width(pipe, spec)
    if width == module.config.text_width and same_encoders(text_encoders(pipe), module.config.text_fingerprint):
        return True
    if module.text is not None:
        return False
    require_width(module, width)
    raise SingDiffusionError(
        "the pipeline's text encoder is not that of the module's training, and the module has none of its own"
    )


def require_width(module: SingModule, width: int) -> None:
    """Raise SingDiffusionError if embeddings of this width do not serve a module without a text encoder."""
    if width != module.config.text_width:
        raise SingDiffusionError(
            f"the module takes text embeddings of width {module.config.text_width}, the pipeline's are {width} wide, "
            "and the module has no text encoder of its own"
        )
