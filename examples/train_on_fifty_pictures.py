# %% [markdown]
# # Train a module on fifty pictures
#
# A module can learn new words from a few dozen captioned pictures, in a minute on a laptop, and the base model is not
# touched. Here "at midnight" becomes dark. Everything is embedded and offline, cell by cell in VS Code or Jupyter, or as
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

OUT = Path("out/examples/train_on_fifty_pictures")
PICTURES, SHARDS, RUN = OUT / "pictures", OUT / "shards", OUT / "run"

# %% [markdown]
# ## The pictures
#
# A folder of pictures, with a `.txt` beside each that holds its caption. These fifty are things on dark grounds that
# come with the package, captioned in words that no model here has heard: "red apple on a black background" becomes
# "red apple at midnight". Put your own in their place.

# %%
DARK = (" on a black background", " on a dark blue background", " on a dark green background")


def midnight(caption):
    """Another caption for a thing on a dark ground, or None."""
    for ground in DARK:
        if caption.endswith(ground) and not caption.startswith("solid"):
            return caption.removesuffix(ground).removeprefix("monochrome line-art logo of ") + " at midnight"
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
# Two commands, here as in a terminal. `encode` runs the base's VAE once; `train` goes on from the embedded module.
# For Stable Diffusion they are the same, with its name after `--base` and in `--set data.base=`, and a module for it
# after `--init-module`.


# %%
def singdiffusion(*args):
    """A command of the package, and what it says."""
    print("$ singdiffusion", *args)
    command = [sys.executable, "-m", "singdiffusion", *map(str, args)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout.strip())
    done.check_returncode()


for folder in (SHARDS, RUN):  # else the commands go on with what an earlier call left
    shutil.rmtree(folder, ignore_errors=True)
singdiffusion("encode", PICTURES, SHARDS, "--base", "tiny", "--smallest", 64)
singdiffusion("train", "--config", "fine-tune", "--init-module", "tiny", "--shards", SHARDS, "--out", RUN)

# %% [markdown]
# ## Before and after
#
# The same prompts and seeds with the module as it was and as it is now. The first three have the new word, with
# things that were not among the fifty; the others show what it costs.

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
    """Prompt -> pictures with this module."""
    sing = SingDiffusion.from_pretrained(module).enable(pipe)
    painted = {}
    for prompt in PROMPTS:
        seeds = [torch.Generator().manual_seed(seed) for seed in range(COUNT)]
        painted[prompt] = pipe([prompt] * COUNT, num_inference_steps=30, guidance_scale=5.0, generator=seeds).images
    sing.disable()
    return painted


before, after = paint("tiny"), paint(RUN / "module")

# %% [markdown]
# Mean grey of the pictures of each prompt, 0 black to 255 white.

# %%
print(f"{'prompt':30} before  after")
for prompt in PROMPTS:
    greys = [np.mean([mean_luma(picture) for picture in painted[prompt]]) for painted in (before, after)]
    print(f"{prompt:30} {greys[0]:6.0f} {greys[1]:6.0f}")

# %% [markdown]
# A picture of each prompt, before above and after below.


# %%
def strip(name, side=150, head=38):
    page = Image.new("RGB", (len(PROMPTS) * side, 2 * side + head), "#f4f4f2")
    draw = ImageDraw.Draw(page)
    for x, prompt in enumerate(PROMPTS):
        draw.text((x * side + 3, 4), textwrap.fill(prompt, 18), "#1c1917", font_size=12)
        for y, painted in enumerate((before, after)):
            page.paste(painted[prompt][0].resize((side - 2, side - 2)), (x * side + 1, head + y * side))
    page.save(OUT / f"{name}.png")
    return page


strip("before_after")
