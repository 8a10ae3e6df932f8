"""Pictures of prompts from seeds, in one call of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import SingDiffusionError


def paint(
    pipe: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    on_step: Callable[[], None] | None = None,
    controls: Sequence[Image.Image] | None = None,
    negative_prompt: str | None = None,
    **options: Any,
) -> list[Image.Image]:
    """A picture of each prompt, in one call of the pipeline.

    Args:
        seeds: each picture's own, for a CPU generator, so that seeds mean the same on every device.
        on_step: called after every denoising step of every picture.
        controls: for a ControlNet, what each picture follows.
        options: for the pipeline: ``num_inference_steps``, ``guidance_scale``, ``height``, ...

    Raises:
        SingDiffusionError: a picture has NaN or infinite values.
    """
    from diffusers.image_processor import VaeImageProcessor

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def callback(pipe: Any, i: int, t: Any, kwargs: dict) -> dict:
        for _ in range(len(prompts) if on_step else 0):
            on_step()  # type: ignore[misc]
        return kwargs

    each: dict[str, Any] = {"negative_prompt": [negative_prompt] * len(prompts)} if negative_prompt is not None else {}
    if controls is not None:
        each["image"] = list(controls)
    made = pipe(
        list(prompts), generator=generators, callback_on_step_end=callback, output_type="np", **each, **options
    ).images
    if not np.isfinite(made).all():
        raise SingDiffusionError(
            f"the model painted NaN or infinite values for {prompts[0]!r}; float16 overflows with some models, try another dtype"
        )
    return VaeImageProcessor.numpy_to_pil(made)
