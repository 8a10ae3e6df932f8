"""The same seed gives the same picture in every supported version: within 1 of 255 of pictures that ``constraints.txt`` gave.

``python -m tests.painting.test_same_picture`` paints the stored pictures again.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from singdiffusion import SingDiffusion, tiny

FILES = Path(__file__).parents[1] / "files" / "pictures"
PROMPTS = ("solid black background", "red heart on a white background")
CASES = [
    pytest.param(model, module, scheduler, id="-".join([model, module or "without", scheduler]))
    for model, module, scheduler in (
        ("tiny", None, "DDIMScheduler"),
        ("tiny", "tiny", "DDIMScheduler"),
        ("tiny", "tiny-unet", "EulerDiscreteScheduler"),
        ("tiny-v", "tiny", "DPMSolverMultistepScheduler"),
        ("tiny-community", "tiny", "UniPCMultistepScheduler"),
    )
]


def paint(model: str, module: str | None, scheduler: str) -> np.ndarray:
    """Return the pictures of ``PROMPTS`` beside each other, uint8 (64, 128, 3)."""
    import diffusers

    pipe = tiny.load_pipeline(model=model)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    if module is not None:
        SingDiffusion.from_pretrained(module).enable(pipe)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))]
    made = pipe(list(PROMPTS), num_inference_steps=10, guidance_scale=5.0, generator=generators).images
    return np.concatenate([np.asarray(picture) for picture in made], axis=1)


@pytest.mark.parametrize(("model", "module", "scheduler"), CASES)
def test_the_same_picture(model, module, scheduler, request):
    stored = np.asarray(Image.open(FILES / f"{request.node.callspec.id}.png")).astype(int)
    assert np.abs(paint(model, module, scheduler).astype(int) - stored).max() <= 1


if __name__ == "__main__":
    for case in CASES:
        Image.fromarray(paint(*case.values)).save(FILES / f"{case.id}.png", optimize=True)
