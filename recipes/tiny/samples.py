"""Contact sheets of what the shipped models paint, for the documentation."""

from itertools import chain
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from singdiffusion import tiny
from singdiffusion.plugin import SingDiffusion

from . import look
from .pictures import World, article, in_words

BATCH = 18

CAN = (
    "monochrome line-art logo of a home on a black background",
    "monochrome line-art logo of a star on a white background",
    "monochrome line-art logo of a heart on a dark blue background",
    "monochrome line-art logo of a key on a yellow background",
    "monochrome line-art logo of a guitar on a white background",
    "monochrome line-art logo of a car on a black background",
    "red apple on a dark blue background",
    "grinning face on a black background",
    "sunflower on a white background",
    "red heart on a light grey background",
    "pizza on a dark green background",
    "rocket on a black background",
    "a very dark photo of a forest",
    "a photo of a forest",
    "an overexposed photo of a city",
    "a dark photo of a sunset",
    "a photo of the sky",
    "a bright photo of a canal in venice",
)
CANNOT = (
    "two red apples on a white background",
    "a red apple to the left of a blue car",
    "the word hello on a white background",
    "a portrait of a woman",
    "a photo of a dog in a forest",
    "a blue banana on a black background",
)
COMMUNITY = (
    "noto style, red apple, black bg",
    "noto style, grinning face, dark blue bg",
    "noto style, sunflower, white bg",
    "noto style, pizza, dark green bg",
    "noto style, rocket, black bg",
    "noto style, red heart, white bg",
)


def paint(
    pipe: StableDiffusionPipeline, prompts: list[str], guidance_scale: float = 5.0, seed: int = 0, **options
) -> list[np.ndarray]:
    """Paint one picture per prompt, uint8 [64, 64, 3], in 50 steps.

    Args:
        pipe: the pipeline.
        prompts: any number.
        guidance_scale: of the pipeline.
        seed: of the first picture; each next picture has the next seed.
        options: for every call of the pipeline.
    """
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        images = pipe(
            part, num_inference_steps=50, guidance_scale=guidance_scale, generator=generators, **options
        ).images
        pictures += [np.asarray(image) for image in images]
    return pictures


def base_sheets(target: Path, unseen: World, docs: Path) -> None:
    """Draw what the base can paint, off above and on below, and what it cannot.

    Args:
        target: the shipped models.
        unseen: the world of held-out icons.
        docs: folder for ``tiny_can.png`` and ``tiny_cannot.png``.
    """
    pipe = StableDiffusionPipeline.from_pretrained(target / "base")
    off = paint(pipe, list(CAN))
    sing = SingDiffusion.from_pretrained(target / "decoder").enable(pipe)
    on = paint(pipe, list(CAN))
    rows = [off[:9], on[:9], off[9:], on[9:]]
    words = [[f"{key}: {prompt}" for prompt in part] for part in (CAN[:9], CAN[9:]) for key in ("off", "on")]
    look.sheet(list(chain(*rows)), docs / "tiny_can.png", columns=9, captions=list(chain(*words)))
    icons = [f"{in_words(name)} on a white background" for name in list(unseen.emoji)[:6]]
    icons += [f"monochrome line-art logo of a {name} on a white background" for name in list(unseen.line)[:6]]
    prompts = [*icons, *CANNOT]
    look.sheet(paint(pipe, prompts), docs / "tiny_cannot.png", columns=9, captions=prompts)
    sing.disable()


def variants_sheet(docs: Path) -> None:
    """Draw pictures of each variant, off above and on below: ``tiny_variants.png``.

    The prompts are the base's for v, their own for the community's, and one with edges for the ControlNet. The
    community's third row is on, and its first step has a prompt in the base's words.
    """
    rows, words = [], []
    hints = [image.resize((64, 64)) for image in list(tiny.hints().values())[:6]]
    logos = [f"monochrome line-art logo on a {color} background" for color in ("black", "white")] * 3
    for model, prompts in (
        ("tiny-v", [*CAN[6:9], *CAN[11:14]]),
        ("tiny-community", list(COMMUNITY)),
        ("tiny-controlnet", logos),
    ):
        pipe = tiny.load_pipeline(model=model)
        options = {"image": hints} if model == "tiny-controlnet" else {}
        off = paint(pipe, prompts, **options)
        sing = SingDiffusion.from_pretrained("tiny").enable(pipe)
        rows += off + paint(pipe, prompts, **options)
        words += [f"off: {prompt}" for prompt in prompts] + [f"on: {prompt}" for prompt in prompts]
        if model == "tiny-community":  # such captions are unknown to the module
            for i, prompt in enumerate(prompts):
                sing.enable(pipe, prompt=_in_the_words_of_the_base(prompt))
                rows += paint(pipe, [prompt], seed=i)
            words += [f"on, first step in the base's words: {prompt}" for prompt in prompts]
    look.sheet(rows, docs / "tiny_variants.png", columns=6, captions=words)


def _in_the_words_of_the_base(prompt: str) -> str:
    _, name, background = prompt.split(", ")
    return f"{name} on {article(background.removesuffix(' bg'))} background"
