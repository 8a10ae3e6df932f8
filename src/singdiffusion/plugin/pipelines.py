"""Which diffusers pipelines can be helped, and how each is read. A new pipeline is a new line of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import SingDiffusionError

Embeddings = tuple[Tensor, Tensor | None]  # of the prompt and of the negative prompt, each (B, L, D)


@dataclass(frozen=True)
class PipelineSpec:
    """How to read one class of pipelines.

    Attributes:
        embeddings: from what ``encode_prompt`` returned to (prompt, negative prompt).
        guidance: from the pipeline, in a call, to its guidance scale.
        denoiser: the name of its U-Net.
    """

    embeddings: Callable[[Any], Embeddings]
    guidance: Callable[[Any], float]
    denoiser: str = "unet"


def _first_two(encoded: Any) -> Embeddings:
    return encoded[0], encoded[1]


def _guidance(pipe: Any) -> float:
    """1 where the pipeline runs without guidance, whatever scale was passed."""
    return float(pipe.guidance_scale) if pipe.do_classifier_free_guidance else 1.0


PIPELINES: dict[str, PipelineSpec] = {
    "StableDiffusionPipeline": PipelineSpec(embeddings=_first_two, guidance=_guidance),
}


def spec_of(pipe: Any) -> PipelineSpec:
    """The table's line for a pipeline; subclasses are other classes, for they may prepare latents in other ways.

    Raises:
        SingDiffusionError: the pipeline's class is not in the table.
    """
    name = type(pipe).__name__
    if name not in PIPELINES:
        raise SingDiffusionError(f"the pipeline class {name} is not supported; supported: {', '.join(PIPELINES)}")
    return PIPELINES[name]
