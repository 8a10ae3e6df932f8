# %% [markdown]
# # See the singularity
#
# At t = 1, pure noise, the usual formula of diffusion models divides zero by zero. A finite data set has an exact
# diffusion in closed form, so one can go there and look, with no network and no training, cell by cell in VS Code or
# Jupyter, or as
#
#     python examples/see_the_singularity.py
#
# It takes seconds, needs `pip install '.[theory]'`, and writes its figures to `out/examples/see_the_singularity/`.
# docs/theory.md has the whole of it.

# %%
import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

from singdiffusion import Schedule, tiny
from singdiffusion.core.singular import first_step
from singdiffusion.theory import samplers
from singdiffusion.theory.oracle import Oracle
from singdiffusion.theory.path import PATH

OUT = Path("out/examples/see_the_singularity")
OUT.mkdir(parents=True, exist_ok=True)
generator = torch.Generator().manual_seed(0)


def keep(name, figure):
    """Save a figure, and return it as a picture."""
    figure.savefig(OUT / f"{name}.png", dpi=110)
    return Image.open(OUT / f"{name}.png")


# %% [markdown]
# ## A perfect denoiser
#
# Three points on a line are the data. A noised point is x_t = alpha x_0 + sigma noise, with alpha from 1 (t = 0) to 0
# (t = 1), and the oracle says E[x_0 | x_t], the best that any network could say. Nothing happens to it at t = 1:
# noise tells nothing of the data, so the answer there is their mean, whatever x is.

# %%
data = torch.tensor([[-1.0], [0.2], [1.0]])
oracle = Oracle(data)
noise = torch.randn(5, 1, generator=generator)
print(f"the mean of the data is {data.mean():.4f}; at t = 1, for five noises, the oracle says")
print("  " + " ".join(f"{y:.4f}" for y in oracle(noise, 1.0).flatten().tolist()))

# %% [markdown]
# Towards t = 1 the curve of its answers goes flat.

# %%
figure = Figure(figsize=(7, 4), layout="constrained")
axis = figure.subplots()
x = torch.linspace(-2.5, 2.5, 301)[:, None]
for i, t in enumerate((0.2, 0.5, 0.8, 0.95, 1.0)):
    axis.plot(x, oracle(x, t), color=str(0.75 - 0.15 * i), label=f"t = {t:g}")
axis.axhline(float(data.mean()), color="#c2410c", linestyle="--", label="mean of the data")
axis.set(title="What a perfect denoiser says", xlabel="x", ylabel="E[x_0 | x_t = x]")
axis.legend(frameon=False)
keep("denoiser", figure)

# %% [markdown]
# ## Why a network that predicts noise cannot say it
#
# Stable Diffusion predicts the noise, epsilon, and x_0 = (x_t - sigma epsilon) / alpha follows from it. The division
# makes every error of the network 1 / alpha times as large, be it only the rounding of float32 (until that leaves
# nothing of x_0, and 0 comes out); at t = 1 it is 0 / 0. A network that predicts x_0 itself divides by nothing.


# %%
def error_of(found, y):
    return float((found - y).square().mean().sqrt())


gaps = [10.0**-k for k in range(1, 13)]  # 1 - t
errors = {
    "from epsilon, 0.01 off": [],
    "from epsilon, in float32": [],
    "x_0 itself, 0.01 off": [],
    "mean of the data": [],
}
for gap in gaps:
    alpha, sigma = PATH.alpha(1 - gap), PATH.sigma(1 - gap)
    x = oracle.sample(1000, 1 - gap, generator)
    y = oracle(x, 1 - gap)
    epsilon = (x - alpha * y) / sigma
    wrong = 0.01 * torch.randn(y.shape, generator=generator)
    in_float32 = (x.float() - sigma.float() * epsilon.float()) / alpha.float()
    found = ((x - sigma * (epsilon + wrong)) / alpha, in_float32, y + wrong, oracle.mean.expand_as(y))
    for name, each in zip(errors, found, strict=True):
        errors[name].append(error_of(each, y))

figure = Figure(figsize=(7, 4), layout="constrained")
axis = figure.subplots()
colours = ("#c2410c", "#a16207", "#0f766e", "#57534e")
for (name, values), colour in zip(errors.items(), colours, strict=True):
    axis.loglog(gaps, values, "--" if name == "mean of the data" else "o-", color=colour, markersize=4, label=name)
axis.invert_xaxis()
axis.set(title="Error of x_0 as t goes to 1", xlabel="1 - t", ylabel="root mean square error")
axis.legend(frameon=False)
print(f"1 - t = {gaps[5]:g}, error of x_0:")
for name, values in errors.items():
    print(f"  {name}: {values[5]:.2g}")
at_one = (noise - PATH.sigma(1) * noise) / PATH.alpha(1)
print(f"t = 1: epsilon is x_1 itself, and x_0 = 0 / 0 = {float(at_one[0])}")
keep("errors", figure)

# %% [markdown]
# The dashed line is how far the mean of the data is from the right answer. It falls to nothing: the singularity is
# removable, and the value that fills the gap is the mean, given the prompt. That is what a SingDiffusion module
# learns.
#
# ## What is lost by starting before t = 1
#
# So pipelines start at 1 - eps, where alpha is small but not 0, with noise that has nothing of the data in it. Over
# thousands of pixels a small alpha adds up. The data are now icons on dark grounds, the start is where Stable
# Diffusion 1.5 has its own, and the oracle takes the place of a perfectly trained model, so that every difference is
# due to the start.

# %%
schedule = Schedule.named("sd15")
alpha = float(schedule.alpha(len(schedule) - 1))
start = 1 - 2 / math.pi * math.asin(alpha)  # the t with this alpha
shown = tiny.pictures()
dark = shown.luma[[i for i, caption in enumerate(shown.captions) if "black" in caption or "dark" in caption]]
oracle = Oracle(dark)
mean = float(dark.mean())
print(f"{len(dark)} pictures of {dark[0].numel()} pixels; alpha = {alpha:.4f} at t = {start:.4f}")
print(f"their mean is {mean:.2f}; noised, {abs(alpha * mean * 64):.1f} standard deviations away from noise alone")


# %% [markdown]
# DDIM from the same noises, once from 1 - eps as pipelines do, once with one step more, the step from t = 1 where the
# oracle says the mean.

# %%
times = torch.linspace(start, 0, 31, dtype=torch.float64)
noise = torch.randn(256, *oracle.shape, dtype=torch.float64, generator=generator)
painted = {
    "real": dark,
    "from 1 - eps": samplers.ddim(oracle, noise, times),
    "from t = 1": samplers.ddim(oracle, noise, [1.0, *times]),
}
greys = {name: (pictures.mean((1, 2, 3)) + 1) * 127.5 for name, pictures in painted.items()}
for name, grey in greys.items():
    print(f"mean grey, {name}: {grey.mean():.0f} ± {grey.std():.0f}")

figure = Figure(figsize=(7, 5), layout="constrained")
for axis, name, colour in zip(
    figure.subplots(3, 1, sharex=True), painted, ("#57534e", "#c2410c", "#0f766e"), strict=True
):
    axis.hist(greys[name], bins=range(0, 181, 6), density=True, color=colour, label=name)
    axis.axvline(greys["real"].mean(), color="#1c1917", linestyle="--", linewidth=1)
    axis.set(yticks=[])
    axis.legend(frameon=False)
axis.set(xlabel="mean grey of a picture, 0 black to 255 white (dashed: the mean of the real ones)")
figure.suptitle("Icons on dark grounds, by where sampling starts")
keep("brightness", figure)

# %% [markdown]
# Every picture lands on one of the data, but from 1 - eps on too many of the bright ones. The same twelve noises from
# both starts:

# %%
figure = Figure(figsize=(9, 2.2), layout="constrained")
for axis, name in zip(figure.subplots(2, 1), ("from 1 - eps", "from t = 1"), strict=True):
    axis.imshow(torch.cat(list(painted[name][:12, 0]), 1), cmap="gray", vmin=-1, vmax=1)
    axis.set_title(name, fontsize=9, loc="left")
    axis.set_axis_off()
keep("pictures", figure)

# %% [markdown]
# Starting at 1 - eps from noise is the same as taking the step from t = 1 towards 0, average grey, in place of the
# mean: the two states differ by a factor of sigma alone, which is all but 1. This is the paper's Proposition 3.

# %%
towards_grey = first_step(torch.zeros_like(noise), noise, alpha, float(PATH.sigma(start)))
apart, size = (towards_grey - noise).abs().max(), noise.abs().max()
print(f"largest difference of the two states: {apart:.4f}, of noises up to {size:.1f}")
