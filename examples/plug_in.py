# %% [markdown]
# # Plug it into a pipeline
#
# One call before painting, and an ordinary diffusers pipeline can paint a dark room and a white page. Everything here
# runs offline on the embedded model, in less than a minute: cell by cell in VS Code or Jupyter, or as
#
#     python examples/plug_in.py
#
# The pictures also go to `out/examples/plug_in/`.

# %%
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image, ImageDraw

from singdiffusion import SingDiffusion, audit, tiny
from singdiffusion.painting.luma import mean_luma

OUT = Path("out/examples/plug_in")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## A pipeline
#
# The embedded model is a small Stable Diffusion of 64 x 64 pictures. The two lines below load another model in its
# place. It needs a module for its own latent space.

# %%
pipe = tiny.load_pipeline()
# from diffusers import StableDiffusionPipeline
# pipe = StableDiffusionPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5")
pipe.set_progress_bar_config(disable=True)

# %% [markdown]
# Does it have the flaw? `audit` reads the scheduler's configuration and reports; it paints nothing.

# %%
print(audit(pipe, num_inference_steps=25))


# %% [markdown]
# Two helpers for the rest of this page. `paint` paints pictures of a prompt, always with the same seeds. `sheet` shows
# them in rows, with the mean luma of each row: 0 is black, 255 white, and ± is the standard deviation over the row's
# pictures.


# %%
def paint(prompt, count=6):
    seeds = [torch.Generator().manual_seed(seed) for seed in range(count)]
    return pipe([prompt] * count, num_inference_steps=25, guidance_scale=5.0, generator=seeds).images


def sheet(name, rows, side=112):
    """Save and return a row of pictures under each label."""
    page = Image.new("RGB", (side * max(map(len, rows.values())), (side + 26) * len(rows)), "#f4f4f2")
    draw = ImageDraw.Draw(page)
    for y, (label, pictures) in enumerate(rows.items()):
        lumas = [mean_luma(picture) for picture in pictures]
        line = f"{label}: {np.mean(lumas):.0f} ± {np.std(lumas):.0f}"
        print(line)
        draw.text((4, (side + 26) * y + 6), line, "#1c1917", font_size=13)
        for x, picture in enumerate(pictures):
            page.paste(picture.resize((side - 2, side - 2)), (side * x + 1, (side + 26) * y + 25))
    page.save(OUT / f"{name}.png")
    return page


# %% [markdown]
# ## Before and after
#
# Without the first step, both prompts come out grey. `enable` plugs the module in. The pipeline is called as before, and
# its weights do not change.

# %%
black, white = "solid black background", "solid white background"
before = {prompt: paint(prompt) for prompt in (black, white)}

sing = SingDiffusion.from_pretrained("tiny").enable(pipe)
after = {prompt: paint(prompt) for prompt in (black, white)}

sheet(
    "before_after",
    {f"{black}, without": before[black], f"{black}, with": after[black]}
    | {f"{white}, without": before[white], f"{white}, with": after[white]},
)

# %% [markdown]
# ## Other schedulers
#
# Schedulers start at different timesteps and scales. Both are read from the scheduler at every call, so there is nothing
# to set.

# %%
own = pipe.scheduler
rows = {}
for kind in (EulerAncestralDiscreteScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler):
    pipe.scheduler = kind.from_config(own.config)
    with sing.disabled():
        rows[f"{kind.__name__}, without"] = paint("rocket on a black background")
    rows[f"{kind.__name__}, with"] = paint("rocket on a black background")
pipe.scheduler = own
sheet("schedulers", rows)

# %% [markdown]
# ## Mean and moments
#
# The prompt "rocket" leaves the background open, and real pictures of rockets have dark and bright ones. With `mean`,
# the paper's step, all pictures get the average. With `moments`, they also vary as real ones do: compare the numbers
# after ±. `moments` is the default where the module supports it.

# %%
rocket = {}
with sing.disabled():
    rocket["rocket, without"] = paint("rocket")
for method in ("mean", "moments"):
    sing.enable(pipe, method=method)
    rocket[f"rocket, {method}"] = paint("rocket")
sheet("mean_moments", rocket)

# %% [markdown]
# ## Another prompt for the first step
#
# The first step can have its own prompt, here one with a background. The pipeline still paints "red apple", with colours
# close to that background.

# %%
steered = {}
for background in ("solid dark blue background", "solid yellow background"):
    sing.enable(pipe, prompt=background, guidance_scale=2.0)
    steered[f"red apple, first step: {background}"] = paint("red apple")
sing.disable()
sheet("first_prompt", steered)

# %% [markdown]
# ## A flat colour, without a module
#
# Where no module fits the model, the first step can start from a flat colour. The pipeline's own VAE turns it into a
# latent.

# %%
colors = {}
for color in ("#101820", "gold"):
    flat = SingDiffusion().enable(pipe, color=color)
    colors[f"rocket, from {color}"] = paint("rocket")
    flat.disable()
sheet("color", colors)

# %% [markdown]
# ## Off again
#
# `disabled()` suspends the first step within a block, and `disable()` unplugs it. Both give the pictures of the
# untouched pipeline, bit for bit.

# %%
sing.enable(pipe)
with sing.disabled():
    suspended = paint(black)
sing.disable()
unplugged = paint(black)


def equal(some, others):
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


print("suspended, the same pictures as before:", equal(suspended, before[black]))
print("unplugged, the same pictures as before:", equal(unplugged, before[black]))
