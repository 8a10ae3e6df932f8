"""Whether a module and a pipeline have the same latent space and the same text."""

from __future__ import annotations

from typing import Any

from ..errors import SingDiffusionError
from ..modules import SingConfig, SingModule
from ..modules.text import same_encoders
from .pipelines import PipelineSpec


def require_latents(pipe: Any, spec: PipelineSpec, config: SingConfig) -> None:
    """Raise SingDiffusionError if the pipeline's latents are not those of the module."""
    vae = getattr(pipe, spec.autoencoder)
    # without a VAE (decoding is done elsewhere) the denoiser counts; an inpainting U-Net has more channels than the latents
    channels = vae.config.latent_channels if vae is not None else getattr(pipe, spec.denoiser).config.in_channels
    if channels != config.latent_channels:
        raise SingDiffusionError(
            f"the module is for latents of {config.latent_channels} channels, the pipeline's have {channels}"
        )
    if vae is None:
        return
    scaling = vae.config.scaling_factor if spec.scaled else 1.0
    for what, mine, theirs in (
        ("scaling", config.vae_scaling_factor, scaling),
        ("shift", config.vae_shift_factor or 0.0, vae.config.get("shift_factor") or 0.0),
    ):
        if abs(theirs - mine) > 1e-4 * abs(mine):
            raise SingDiffusionError(
                f"the module is for another latent space: VAE {what} factor {mine:g}, the pipeline's is {theirs:g}"
            )


def shares_text(pipe: Any, spec: PipelineSpec, module: SingModule) -> bool:
    """Return whether the pipeline's embeddings serve the module; False: the module encodes prompts with its own encoder.

    Raises:
        SingDiffusionError: they do not, and the module has no text encoder.
    """
    denoiser = getattr(pipe, spec.denoiser).config
    width = denoiser.get("caption_channels") or denoiser.cross_attention_dim
    encoders = [getattr(pipe, name, None) for name in ("text_encoder", "text_encoder_2")]
    fits = width == module.config.text_width
    if fits and same_encoders([each for each in encoders if each is not None], module.config.text_fingerprint):
        return True
    if module.text_encoder is not None:
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
