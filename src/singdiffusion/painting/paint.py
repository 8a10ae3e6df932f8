"""Paint prompts from seeds in one call of a pipeline, and put two pictures side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import SingDiffusionError

WITHHELD = "withheld by the model's safety checker"


def paint(
    pipe: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    on_step: Callable[[], None] | None = None,
    controls: Sequence[Image.Image] | None = None,
    negative_prompt: str | None = None,
    **options: Any,
) -> list[Image.Image | None]:
    """Return one picture per prompt, painted in one call of the pipeline; None where its safety checker withheld the picture.

    Args:
        pipe: a diffusers pipeline.
        prompts: texts.
        seeds: one per picture, for a CPU generator, so that seeds mean the same on every device.
        on_step: called after every denoising step of every picture, ``num_inference_steps`` times in all, however often the scheduler
            calls the model for them.
        controls: for a ControlNet: the picture that each one follows.
        negative_prompt: of all pictures.
        options: for the pipeline: ``num_inference_steps``, ``guidance_scale``, ``height``, ...

    Raises:
        SingDiffusionError: a picture has NaN or infinite values.
    """
    from diffusers.image_processor import VaeImageProcessor

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    steps, done = options.get("num_inference_steps"), 0

    def callback(pipe: Any, i: int, t: Any, kwargs: dict) -> dict:
        nonlocal done
        calls = getattr(pipe, "num_timesteps", None)  # Heun's 50 steps are 99 calls, and PNDM's 51
        now = (i + 1) * steps // calls if steps and calls else i + 1
        for _ in range(len(prompts) * (now - done) if on_step else 0):
            on_step()  # type: ignore[misc]
        done = now
        return kwargs

    each: dict[str, Any] = {"negative_prompt": [negative_prompt] * len(prompts)} if negative_prompt is not None else {}
    if controls is not None:
        each["image"] = list(controls)
    made = pipe(list(prompts), generator=generators, callback_on_step_end=callback, output_type="np", **each, **options)
    if not np.isfinite(made.images).all():
        raise SingDiffusionError(
            f"the model painted NaN or infinite values for {prompts[0]!r}; some models overflow in float16, try bfloat16 or "
            "float32",
            setting="torch_dtype",
        )
    flagged = getattr(made, "nsfw_content_detected", None) or [False] * len(prompts)  # these are painted black
    images = VaeImageProcessor.numpy_to_pil(made.images)
    return [None if flag else image for image, flag in zip(images, flagged, strict=True)]


def side_by_side(without: Image.Image, with_sing: Image.Image) -> Image.Image:
    """Return one picture with two of the same size: without SingDiffusion on the left, with it on the right."""
    gap = 4
    sheet = Image.new("RGB", (2 * without.width + gap, without.height), "#8a8f98")
    sheet.paste(without.convert("RGB"), (0, 0))
    sheet.paste(with_sing.convert("RGB"), (without.width + gap, 0))
    return sheet
