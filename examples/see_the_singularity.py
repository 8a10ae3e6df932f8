# %% [markdown]
# # See the singularity
#
# At t = 1, pure noise, the usual formula of diffusion models divides zero by zero. For a finite data set the exact
# diffusion is known in closed form, so we can compute what happens there, with no network and no training. Run it cell by
# cell in VS Code or Jupyter, or as
#
#     python examples/see_the_singularity.py
#
# It takes seconds, needs `pip install '.[theory]'`, and writes its figures to `out/examples/see_the_singularity/`.
# docs/theory.md has the whole theory. "The paper" is Zhang, Yin, Li, Xie, "Tackling the Singularities at the Endpoints of
# Time Intervals in Diffusion Models", CVPR 2024 (arXiv 2403.08381).

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
# The data are three points on a line. A noised point is x_t = alpha x_0 + sigma noise, where alpha goes from 1 (at t = 0)
# to 0 (at t = 1). The oracle computes E[x_0 | x_t], the best prediction that any network could make. At t = 1 nothing
# special happens to it. Noise contains no information about the data, so the prediction there is their mean, whatever x
# is.

# %%
data = torch.tensor([[-1.0], [0.2], [1.0]])
oracle = Oracle(data)
noise = torch.randn(5, 1, generator=generator)
print(f"the mean of the data is {data.mean():.4f}; at t = 1, for five noises, the oracle predicts")
print("  " + " ".join(f"{y:.4f}" for y in oracle(noise, 1.0).flatten().tolist()))

# %% [markdown]
# Towards t = 1 the curve of its predictions becomes flat.

# %%
figure = Figure(figsize=(7, 4), layout="constrained")
axis = figure.subplots()
x = torch.linspace(-2.5, 2.5, 301)[:, None]
for i, t in enumerate((0.2, 0.5, 0.8, 0.95, 1.0)):
    axis.plot(x, oracle(x, t), color=str(0.75 - 0.15 * i), label=f"t = {t:g}")
axis.axhline(float(data.mean()), color="#c2410c", linestyle="--", label="mean of the data")
axis.set(title="Prediction of a perfect denoiser", xlabel="x", ylabel="E[x_0 | x_t = x]")
axis.legend(frameon=False)
keep("denoiser", figure)

# %% [markdown]
# ## Why a network that predicts noise cannot do this
#
# Stable Diffusion predicts the noise, epsilon, from which x_0 = (x_t - sigma epsilon) / alpha follows. The division by
# alpha magnifies every error of the network, even the rounding of float32, and at t = 1 it is 0 / 0. A network that
# predicts x_0 itself needs no division.
#
# (Very close to t = 1, float32 rounds all of x_0 away, and the result is 0.)


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
colors = ("#c2410c", "#a16207", "#0f766e", "#57534e")
for (name, values), color in zip(errors.items(), colors, strict=True):
    axis.loglog(gaps, values, "--" if name == "mean of the data" else "o-", color=color, markersize=4, label=name)
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
# The dashed line is the distance between the mean of the data and the exact prediction. It goes to 0. So the singularity
# is removable: the value that belongs there is the mean of the data, given the prompt. A SingDiffusion module is trained
# to predict it.
#
# ## What is lost by starting before t = 1
#
# Pipelines start at 1 - eps, where alpha is small but not 0, with noise that contains nothing of the data. Over
# thousands of pixels a small alpha adds up.
#
# The data are now icons on dark backgrounds, and sampling starts where Stable Diffusion 1.5 starts. The oracle takes the
# place of a perfectly trained model, so every difference comes from the start alone.

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
# We sample with DDIM from the same noises twice: from 1 - eps, as pipelines do, and with one step more, from t = 1, where
# the oracle predicts the mean.

# %%
times = torch.linspace(start, 0, 31, dtype=torch.float64)
noise = torch.randn(256, *oracle.shape, dtype=torch.float64, generator=generator)
painted = {
    "real": dark,
    "from 1 - eps": samplers.ddim(oracle, noise, times),
    "from t = 1": samplers.ddim(oracle, noise, [1.0, *times]),
}
lumas = {name: (pictures.mean((1, 2, 3)) + 1) * 127.5 for name, pictures in painted.items()}
for name, values in lumas.items():
    print(f"mean luma, {name}: {values.mean():.0f} ± {values.std():.0f}")

figure = Figure(figsize=(7, 5), layout="constrained")
for axis, name, color in zip(
    figure.subplots(3, 1, sharex=True), painted, ("#57534e", "#c2410c", "#0f766e"), strict=True
):
    axis.hist(lumas[name], bins=range(0, 181, 6), density=True, color=color, label=name)
    axis.axvline(lumas["real"].mean(), color="#1c1917", linestyle="--", linewidth=1)
    axis.set(yticks=[])
    axis.legend(frameon=False)
axis.set(xlabel="mean luma of a picture, 0 black to 255 white (dashed: mean of the real pictures)")
figure.suptitle("Icons on dark backgrounds, by where sampling starts")
keep("brightness", figure)

# %% [markdown]
# Every sampled picture is one of the data, but from 1 - eps too many are bright ones. The same twelve noises from both
# starts:

# %%
figure = Figure(figsize=(9, 2.2), layout="constrained")
for axis, name in zip(figure.subplots(2, 1), ("from 1 - eps", "from t = 1"), strict=True):
    axis.imshow(torch.cat(list(painted[name][:12, 0]), 1), cmap="gray", vmin=-1, vmax=1)
    axis.set_title(name, fontsize=9, loc="left")
    axis.set_axis_off()
keep("pictures", figure)

# %% [markdown]
# Starting at 1 - eps from noise is the same as a step from t = 1 towards 0, which is average grey, in place of the mean.
# The two states differ only by the factor sigma, which is almost 1. This is the paper's Proposition 3.

# %%
towards_zero = first_step(torch.zeros_like(noise), noise, alpha, float(PATH.sigma(start)))
apart, size = (towards_zero - noise).abs().max(), noise.abs().max()
print(f"largest difference of the two states: {apart:.4f}, of noises up to {size:.1f}")
