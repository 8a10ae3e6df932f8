"""The supported diffusers pipelines, and how each is read. A new pipeline is a new line of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import SingDiffusionError
from .calls import local_of_call

Embeddings = tuple[Tensor, Tensor | None]  # of the prompt and of the negative prompt, each (B, L, D)


def _first_two(encoded: Any) -> Embeddings:
    """Read (prompt, negative, ...), as Stable Diffusion returns it."""
    return encoded[0], encoded[1]


def _every_other(encoded: Any) -> Embeddings:
    """Read (prompt, its mask, negative, its mask), as PixArt returns it; a module takes padding as it is."""
    return encoded[0], encoded[2]


def _guidance(pipe: Any) -> float:
    """Return the guidance scale, or 1 where the pipeline runs without guidance."""
    return float(pipe.guidance_scale) if pipe.do_classifier_free_guidance else 1.0


def _guidance_of_call(pipe: Any) -> float:
    """Return the guidance scale of the running call, for pipelines without a public attribute for it."""
    return float(local_of_call(pipe, "guidance_scale"))


def _always(given: Mapping[str, Any]) -> bool:
    return True


def _at_full_strength(given: Mapping[str, Any]) -> bool:
    """Return whether inpainting starts from noise: at strength 1, and not from another pipeline's latents."""
    return bool(given.get("is_strength_max", True)) and bool(given.get("add_noise", True))


@dataclass(frozen=True)
class PipelineSpec:
    """How one class of pipelines is read.

    Attributes:
        embeddings: result of ``encode_prompt`` -> (prompt, negative prompt); None: the class encodes no prompt.
        guidance: pipeline, in a call -> guidance scale.
        denoiser: the name of its U-Net or transformer.
        autoencoder: the name of its VAE.
        scaled: whether it multiplies latents by its VAE's scaling factor.
        from_noise: arguments of ``prepare_latents`` -> whether this call starts from pure noise.
    """

    embeddings: Callable[[Any], Embeddings] | None = _first_two
    guidance: Callable[[Any], float] = _guidance
    denoiser: str = "unet"
    autoencoder: str = "vae"
    scaled: bool = True
    from_noise: Callable[[Mapping[str, Any]], bool] = _always


_PLAIN = PipelineSpec()
_INPAINT = PipelineSpec(from_noise=_at_full_strength)
_PIXART = PipelineSpec(embeddings=_every_other, guidance=_guidance_of_call, denoiser="transformer")

PIPELINES: dict[str, PipelineSpec] = {
    "StableDiffusionPipeline": _PLAIN,
    "StableDiffusionControlNetPipeline": _PLAIN,
    "StableDiffusionPAGPipeline": _PLAIN,
    "StableDiffusionControlNetPAGPipeline": _PLAIN,
    "StableDiffusionAdapterPipeline": _PLAIN,
    "StableDiffusionInpaintPipeline": _INPAINT,
    "StableDiffusionControlNetInpaintPipeline": _INPAINT,
    "LatentConsistencyModelPipeline": _PLAIN,
    "StableDiffusionXLPipeline": _PLAIN,
    "StableDiffusionXLControlNetPipeline": _PLAIN,
    "StableDiffusionXLPAGPipeline": _PLAIN,
    "StableDiffusionXLAdapterPipeline": _PLAIN,
    "StableDiffusionXLInpaintPipeline": _INPAINT,
    "AnimateDiffPipeline": _PLAIN,
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": _PIXART,
    "KandinskyV22Pipeline": PipelineSpec(embeddings=None, autoencoder="movq", scaled=False),
}

_FROM_A_PICTURE = "it starts from a picture, not from noise"
UNTOUCHED: dict[str, str] = {
    "StableDiffusionImg2ImgPipeline": _FROM_A_PICTURE,
    "StableDiffusionControlNetImg2ImgPipeline": _FROM_A_PICTURE,
    "StableDiffusionPAGImg2ImgPipeline": _FROM_A_PICTURE,
    "StableDiffusionDepth2ImgPipeline": _FROM_A_PICTURE,
    "StableDiffusionXLImg2ImgPipeline": _FROM_A_PICTURE,
    "StableDiffusionXLControlNetImg2ImgPipeline": _FROM_A_PICTURE,
    "StableDiffusionXLPAGImg2ImgPipeline": _FROM_A_PICTURE,
    "LatentConsistencyModelImg2ImgPipeline": _FROM_A_PICTURE,
    "KandinskyV22Img2ImgPipeline": _FROM_A_PICTURE,
}


def untouched(pipe: Any) -> str | None:
    """Return the reason why a pipeline stays as it is, or None where the first step applies."""
    name = type(pipe).__name__
    if name not in PIPELINES and type(pipe.scheduler).__name__.startswith("FlowMatch"):
        return "it matches flows, which start from pure noise: there is nothing to fix"
    return UNTOUCHED.get(name)


def spec_of(pipe: Any) -> PipelineSpec:
    """Return the table's line for a pipeline; a subclass has no line of its own, because it may prepare latents in another way.

    Raises:
        SingDiffusionError: the pipeline's class is not in the table.
    """
    name = type(pipe).__name__
    if name not in PIPELINES:
        raise SingDiffusionError(f"the pipeline class {name} is not supported; supported: {', '.join(PIPELINES)}")
    return PIPELINES[name]
