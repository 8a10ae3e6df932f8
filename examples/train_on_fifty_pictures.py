# %% [markdown]
# # Train a module on fifty pictures
#
# A module learns new words from a few dozen captioned pictures, in a minute on a laptop; the base model does not change.
# In this example "at midnight" becomes dark. Everything is embedded and offline. Run it cell by cell in VS Code or
# Jupyter, or as
#
#     python examples/train_on_fifty_pictures.py
#
# It takes about two minutes, needs `pip install '.[train]'`, and writes to `out/examples/train_on_fifty_pictures/`.

# %%
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from singdiffusion import SingDiffusion, tiny
from singdiffusion.painting.luma import mean_luma

OUT = Path("out/examples/train_on_fifty_pictures")
PICTURES, SHARDS, RUN = OUT / "pictures", OUT / "shards", OUT / "run"

# %% [markdown]
# ## The pictures
#
# Training needs a folder of pictures, each with its caption in a `.txt` file of the same name. These fifty come with the
# package. They are things on dark backgrounds, and their new captions have words that no model here was trained on: "red
# apple on a black background" becomes "red apple at midnight". Replace them by your own.

# %%
DARK = (" on a black background", " on a dark blue background", " on a dark green background")


def midnight(caption):
    """Return another caption for a thing on a dark background, otherwise None."""
    for background in DARK:
        if caption.endswith(background) and not caption.startswith("solid"):
            return caption.removesuffix(background).removeprefix("monochrome line-art logo of ") + " at midnight"
    return None


shown = tiny.pictures()
captioned = [(picture, midnight(caption)) for picture, caption in zip(shown.drawn, shown.captions, strict=True)]
fifty = [(Image.fromarray(p.permute(1, 2, 0).numpy()), caption) for p, caption in captioned if caption][:50]
PICTURES.mkdir(parents=True, exist_ok=True)
for i, (picture, caption) in enumerate(fifty):
    picture.save(PICTURES / f"{i:02d}.png")
    (PICTURES / f"{i:02d}.txt").write_text(f"{caption}\n")
print(f"{len(fifty)} pictures in {PICTURES}, the first is a {fifty[0][1]}")

# %% [markdown]
# ## Encode and train
#
# These are two commands, run here as in a terminal. `encode` computes latents with the base's VAE, once. `train` starts
# from the embedded module. For Stable Diffusion, write the model's name after `--base` and in `--set data.base=`, and a
# module for it after `--init-module`.


# %%
def singdiffusion(*args):
    """Run a command of the package and print its output."""
    print("$ singdiffusion", *args)
    command = [sys.executable, "-m", "singdiffusion", *map(str, args)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout.strip())
    done.check_returncode()


for folder in (SHARDS, RUN):  # otherwise the commands resume an earlier run
    shutil.rmtree(folder, ignore_errors=True)
singdiffusion("encode", PICTURES, SHARDS, "--base", "tiny", "--smallest", 64)
singdiffusion("train", "--config", "fine-tune", "--init-module", "tiny", "--shards", SHARDS, "--out", RUN)

# %% [markdown]
# ## Before and after
#
# The same prompts and seeds with the module before and after the training. The first three prompts have the new words,
# with things that are not among the fifty. The others show what the training changed elsewhere.

# %%
PROMPTS = (
    "red apple at midnight",
    "rocket at midnight",
    "sunflower at midnight",
    "rocket",
    "rocket on a white background",
    "solid white background",
)
COUNT = 16

pipe = tiny.load_pipeline()
pipe.set_progress_bar_config(disable=True)


def paint(module):
    """Return prompt -> pictures with this module."""
    sing = SingDiffusion.from_pretrained(module).enable(pipe)
    painted = {}
    for prompt in PROMPTS:
        seeds = [torch.Generator().manual_seed(seed) for seed in range(COUNT)]
        painted[prompt] = pipe([prompt] * COUNT, num_inference_steps=30, guidance_scale=5.0, generator=seeds).images
    sing.disable()
    return painted


before, after = paint("tiny"), paint(RUN / "module")

# %% [markdown]
# The mean luma of the pictures of each prompt, 0 black to 255 white:

# %%
print(f"{'prompt':30} before  after")
for prompt in PROMPTS:
    lumas = [np.mean([mean_luma(picture) for picture in painted[prompt]]) for painted in (before, after)]
    print(f"{prompt:30} {lumas[0]:6.0f} {lumas[1]:6.0f}")

# %% [markdown]
# A picture of each prompt, before above and after below:


# %%
def strip(name, side=150, head=38):
    """Save and return a strip of the first pictures."""
    page = Image.new("RGB", (len(PROMPTS) * side, 2 * side + head), "#f4f4f2")
    draw = ImageDraw.Draw(page)
    for x, prompt in enumerate(PROMPTS):
        draw.text((x * side + 3, 4), textwrap.fill(prompt, 18), "#1c1917", font_size=12)
        for y, painted in enumerate((before, after)):
            page.paste(painted[prompt][0].resize((side - 2, side - 2)), (x * side + 1, head + y * side))
    page.save(OUT / f"{name}.png")
    return page


strip("before_after")
