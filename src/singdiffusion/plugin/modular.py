"""The first step as a block of diffusers' modular pipelines."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.modular_pipelines import ModularPipelineBlocks, PipelineState, SequentialPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, InputParam, OutputParam
from diffusers.schedulers import EulerDiscreteScheduler

from ..core.singular import first_step
from ..errors import SingDiffusionError
from ..modules import SingModule
from ..modules.text import same_encoders
from .first_step import first_step_of
from .fits import prompt_encoder_of, require_width, text_encoders

NAME = "singdiffusion"


class SingDiffusionStep(ModularPipelineBlocks):
    """Turns the noise x_1 of ``prepare_latents`` into alpha y_bar + sigma x_1.

    Args:
        module: a module. One with a text encoder of its own reads the raw prompt.
        method: as for ``SingDiffusion.enable``.
    """

    model_name = "stable-diffusion-xl"

    def __init__(self, module: SingModule, method: str | None = None):
        self.module, self.method = module, method
        super().__init__()

    def __deepcopy__(self, memo: dict) -> SingDiffusionStep:
        """Share the module: ``init_pipeline`` copies all blocks."""
        return SingDiffusionStep(self.module, self.method)

    @property
    def description(self) -> str:
        return "SingDiffusion: the first step from t = 1, on the prepared latents"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [ComponentSpec("scheduler", EulerDiscreteScheduler)]

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("latents", required=True, type_hint=torch.Tensor),
            InputParam("prompt_embeds", required=True, type_hint=torch.Tensor),
            InputParam("negative_prompt_embeds", type_hint=torch.Tensor),
            InputParam("prompt"),
            InputParam("negative_prompt"),
            InputParam("num_images_per_prompt", default=1),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("latents", type_hint=torch.Tensor, description="at the scheduler's first timestep")]

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        block = self.get_block_state(state)
        step = first_step_of(components.scheduler)
        x_1 = block.latents.float() / step.noise_scale
        scale = _guidance(components)
        positive, negative = self._prompt_embeddings(components, block, scale > 1)
        empty = self._encode_empty(components, [positive, negative])
        y_bar, covariance = self.module.guided_moments(x_1, positive, negative, scale, self.method, empty)
        taken = first_step(y_bar, x_1, step.alpha, step.sigma, covariance)
        block.latents = (step.scale * taken).to(block.latents.dtype)
        self.set_block_state(state, block)
        return components, state

    def _prompt_embeddings(self, components: Any, block: Any, needs_negative: bool) -> tuple[Any, Any]:
        width = block.prompt_embeds.shape[-1]
        if self.module.text is not None and not self._shares_text(components, width):
            return self.module.encode_prompt(block.prompt, block.negative_prompt, block.num_images_per_prompt)
        require_width(self.module, width)
        return block.prompt_embeds, block.negative_prompt_embeds if needs_negative else None

    def _encode_empty(self, components: Any, embeddings: list[Any]) -> Any:
        """Return embeddings of the empty prompt, where they are needed beside several chunks or zeros and the pipeline can make them."""
        encoder = prompt_encoder_of(components)
        if encoder is None or not any(each is not None and self.module.reads_in_chunks(each) for each in embeddings):
            return None
        return encoder.encode([""])

    def _shares_text(self, components: Any, width: int) -> bool:
        """Return whether the pipeline's text encoders are those of a module that has its own."""
        encoders, config = text_encoders(components), self.module.config
        return bool(encoders) and width == config.text_width and same_encoders(encoders, config.text_fingerprint)


def _guidance(components: Any) -> float:
    """Return the guidance scale of a modular pipeline, or 1 without guidance.

    ``_enabled`` is private; guiders have ``disable()`` and no public attribute for it (``tests/plugin/test_private_api.py``).
    """
    guider = getattr(components, "guider", None)
    if guider is None or not getattr(guider, "_enabled", True):
        return 1.0
    return float(getattr(guider, "guidance_scale", 1.0))


def add_first_step(
    blocks: SequentialPipelineBlocks, module: SingModule, method: str | None = None
) -> SequentialPipelineBlocks:
    """Put a ``SingDiffusionStep`` after every ``prepare_latents`` of text-to-image in a tree of blocks.

    Args:
        blocks: of a modular pipeline; changed in place.
        module: a module.
        method: as for ``SingDiffusion.enable``.

    Returns:
        ``blocks``.

    Raises:
        SingDiffusionError: no block prepares latents from text.
    """
    if not _add(blocks, SingDiffusionStep(module, method), "text2img"):
        raise SingDiffusionError("these blocks prepare no latents from text; there is no first step to take")
    return blocks


def _add(blocks: Any, step: SingDiffusionStep, name: str) -> int:
    """Return how many steps were put into ``blocks`` (called ``name`` in their parent) and below; none into img2img and inpaint."""
    if name in ("img2img", "inpaint"):
        return 0
    inner = getattr(blocks, "sub_blocks", None)
    if not inner:
        return 0
    found = sum(_add(block, step, key) for key, block in list(inner.items()))
    if "prepare_latents" in inner and NAME not in inner:
        inner.insert(NAME, step, list(inner).index("prepare_latents") + 1)
        found += 1
    return found
