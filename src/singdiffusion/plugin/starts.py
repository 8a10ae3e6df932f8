"""Where sampling starts: mean and covariance of x_0 for one call of a pipeline, from a module or from a flat colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import SingDiffusionError
from ..modules import SingModule
from ..modules.sing_module import Moments
from ..modules.text import prompts_per_picture
from .fits import prompt_encoder_of, require_latents, shares_text, text_encoders
from .pipelines import Embeddings, PipelineSpec
from .steering import Steering
from .vae import flat_latents


@dataclass(frozen=True)
class EncodedPrompt:
    """Arguments and result of the pipeline's ``encode_prompt`` in the running call, and the method itself."""

    arguments: dict[str, Any]
    embeddings: Embeddings
    encode: Callable[..., Any]


class Start(Protocol):
    """A source of the guided mean and covariance of x_0."""

    def encoded_prompt(
        self, pipe: Any, encoded: Any, arguments: dict[str, Any], encode: Callable[..., Any]
    ) -> EncodedPrompt | None:
        """Return what this start keeps of ``encode_prompt``: its result, its arguments, and the method itself."""
        ...

    def guided_moments(self, pipe: Any, x_1: Tensor, prompt: EncodedPrompt | None, frames: int) -> Moments:
        """Return y_bar (B, C, H, W) and the covariance, or None, for x_1 (B, C, H, W), of which ``frames`` in a row are a video."""
        ...


class FlatColorStart:
    """The mean latent of one colour, whatever the prompt.

    Raises:
        SingDiffusionError: the pipeline has no VAE.
    """

    def __init__(self, color: tuple[int, int, int], pipe: Any, spec: PipelineSpec):
        if getattr(pipe, spec.autoencoder) is None:
            raise SingDiffusionError("a color needs the pipeline's VAE, and this pipeline has none")
        self._color, self._spec = color, spec

    def encoded_prompt(self, pipe: Any, encoded: Any, arguments: dict[str, Any], encode: Callable[..., Any]) -> None:
        return None

    def guided_moments(self, pipe: Any, x_1: Tensor, prompt: EncodedPrompt | None, frames: int) -> Moments:
        return flat_latents(self._color, getattr(pipe, self._spec.autoencoder), x_1, self._spec.scaled), None


class ModuleStart:
    """A module's prediction for the pipeline's prompt, or for a prompt of the first step's own.

    Args:
        module: the module.
        device: where it stays; None: it follows the pipeline.
        steering: options of the first step.
        pipe: the pipeline.
        spec: of the pipeline's class.

    Raises:
        SingDiffusionError: module and pipeline do not fit, or the module cannot do what is asked.
    """

    def __init__(
        self, module: SingModule, device: torch.device | None, steering: Steering, pipe: Any, spec: PipelineSpec
    ):
        self._device, self._steering, self._spec = device, steering, spec
        self._method = module.choose_method(steering.method)
        require_latents(pipe, spec, module.config)
        if spec.embeddings is None and (module.text is None or steering.prompt is None):
            raise SingDiffusionError(
                f"{type(pipe).__name__} encodes no prompt; pass enable(pipe, prompt=...) with a module that has "
                "its own text encoder, or a color"
            )
        self._shares_text = spec.embeddings is not None and shares_text(pipe, spec, module)
        self._module = _with_length_of(pipe, module) if self._shares_text else module

    def encoded_prompt(
        self, pipe: Any, encoded: Any, arguments: dict[str, Any], encode: Callable[..., Any]
    ) -> EncodedPrompt | None:
        if self._spec.embeddings is None:
            return None
        if self._steering.prompt is not None and self._encodes(pipe):
            encoded = _encode_other(arguments, encode, self._steering.prompt, self._steering.negative_prompt)
        return EncodedPrompt(arguments, self._spec.embeddings(encoded), encode)

    def _encodes(self, pipe: Any) -> bool:
        """Return whether the pipeline can encode a prompt for the module; not if its text encoders were removed."""
        return self._shares_text and bool(text_encoders(pipe))

    @torch.no_grad()
    def guided_moments(self, pipe: Any, x_1: Tensor, prompt: EncodedPrompt | None, frames: int) -> Moments:
        scale = self._guidance_scale(pipe)
        self._move(x_1.device)
        positive, negative = self._prompt_embeddings(pipe, prompt, len(x_1) // frames, needs_negative=scale > 1)
        positive = positive.repeat_interleave(frames, 0)
        negative = None if negative is None else negative.repeat_interleave(frames, 0)
        in_chunks = any(each is not None and self._module.reads_in_chunks(each) for each in (positive, negative))
        empty = self._encode_empty(pipe, prompt) if in_chunks else None
        moments = self._module.guided_moments(x_1, positive, negative, scale, self._method, empty)
        if is_offloaded(pipe):  # the pipeline keeps the device for the network at work
            self._move(torch.device("cpu"))
        return moments

    def _guidance_scale(self, pipe: Any) -> float:
        for own in (self._steering.guidance_scale, self._module.config.guidance_scale):
            if own is not None:
                return own
        return self._spec.guidance(pipe)

    def _move(self, device: torch.device) -> None:
        """Move what the first step runs: own text encoders stay where they are if the pipeline's serve."""
        place = self._device or device
        if self._shares_text:
            self._module.network.to(place)
        else:
            self._module.to(place)

    def _prompt_embeddings(
        self, pipe: Any, prompt: EncodedPrompt | None, batch: int, needs_negative: bool
    ) -> Embeddings:
        """Return embeddings of the prompts and, with guidance, of the negative prompts, a row per picture."""
        if getattr(pipe, "free_noise_enabled", False):
            raise SingDiffusionError("FreeNoise changes the prompt from frame to frame, which is not supported")
        steered = self._steering.prompt
        if steered is not None and not self._encodes(pipe):
            if self._module.text is None:
                raise SingDiffusionError(
                    "the pipeline's text encoder was removed, and the module has none of its own, so the first step's own prompt "
                    "cannot be encoded"
                )
            positive, negative = self._module.encode_prompt(steered, self._steering.negative_prompt)
        elif prompt is None:
            raise SingDiffusionError(
                "the pipeline prepared latents without encoding a prompt, which this plug-in needs"
            )
        elif self._shares_text:
            positive, negative = prompt.embeddings
        else:
            positive, negative = self._module.encode_prompt(*_raw_prompts(prompt.arguments, needs_negative))
        if steered is not None:
            positive = positive.expand(batch, -1, -1)
            negative = None if negative is None else negative.expand(batch, -1, -1)
        if not needs_negative:
            negative = None
        elif negative is None:  # the pipeline paints without guidance, and the first step has it
            empty = self._encode_empty(pipe, prompt)
            if empty is None:
                raise SingDiffusionError(
                    "guidance in the first step needs embeddings of the negative prompt, and there is no text encoder that makes "
                    "them; pass negative_prompt_embeds"
                )
            negative = empty.expand(batch, -1, -1)
        for embeddings in (positive, negative):
            if embeddings is not None and len(embeddings) != batch:
                raise SingDiffusionError(
                    f"embeddings of {len(embeddings)} prompts do not fit latents of {batch} pictures"
                )
        return positive, negative

    def _encode_empty(self, pipe: Any, prompt: EncodedPrompt | None) -> Tensor | None:
        """Return the embeddings (1, L, D) of the empty prompt; None where nothing here can make them."""
        if prompt is not None and self._spec.embeddings is not None and self._encodes(pipe):
            encoded = _encode_other(prompt.arguments, prompt.encode, "", "")
            return self._spec.embeddings(encoded)[0][:1]
        return None if self._module.text is None else self._module.text.encode([""])


def _with_length_of(pipe: Any, module: SingModule) -> SingModule:
    """Return a module that has the length of the pipeline's text, for one whose own is not known and whose text is the pipeline's."""
    encoder = prompt_encoder_of(pipe)
    if module.text_length is not None or encoder is None or encoder.length is None:
        return module
    config = module.config.model_copy(update={"text_length": encoder.length})
    return SingModule(module.network, config, module.text)


def _encode_other(arguments: dict[str, Any], encode: Callable[..., Any], prompt: str, negative_prompt: str) -> Any:
    """Return the result of ``encode_prompt`` for one other prompt, called as the pipeline called it."""
    others = {key: None for key in arguments if "embeds" in key or "mask" in key or key.endswith("prompt_2")}
    own = {"prompt": prompt, "negative_prompt": negative_prompt}
    counts = {key: 1 for key in ("num_images_per_prompt", "num_videos_per_prompt") if key in arguments}
    return encode(**(arguments | others | own | counts | {"do_classifier_free_guidance": True}))


def is_offloaded(pipe: Any) -> bool:
    """Return whether a pipeline moves its networks to the device one by one.

    ``_offload_device`` is private; diffusers has no public attribute for it (``tests/plugin/test_private_api.py``).
    """
    return getattr(pipe, "_offload_device", None) is not None


def _raw_prompts(arguments: dict[str, Any], needs_negative: bool) -> tuple[list[str], list[str]]:
    """Return the prompts and negative prompts that ``encode_prompt`` got as text, one per picture."""
    for name, missing in (
        ("prompt", arguments.get("prompt") is None),
        ("negative_prompt", needs_negative and arguments.get("negative_prompt_embeds") is not None),
    ):
        if missing:
            raise SingDiffusionError(
                f"only {name}_embeds were passed, and this module encodes prompts with a text encoder of its own; "
                f"pass {name} as text instead, or enable(pipe, prompt=...) for the first step alone"
            )
    count = arguments.get("num_images_per_prompt") or arguments.get("num_videos_per_prompt") or 1
    return prompts_per_picture(arguments["prompt"], arguments.get("negative_prompt"), count)
