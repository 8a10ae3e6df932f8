"""Draw the figures of ``docs/theory.md``, each with the caption that stands below it there."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..files import write_whole
from ..plots import INK, MEAN, MOMENTS, REAL, SERIES, SMALL, WITHOUT, axes, files, grid, style
from .brightness import STARTS, Start
from .checks import Curve, Landing, Routes
from .module import Fit

COLORS = {"off": WITHOUT, "mean": MEAN, "moments": MOMENTS, "real": REAL}
TITLES = {"off": "$N(0, I)$", "mean": "mean (the paper)", "moments": "moments (ours)", "real": "real pictures"}


@dataclass(frozen=True)
class Drawing:
    """A figure and its caption.

    Attributes:
        name: of the files, without suffix.
        figure: matplotlib's.
        caption: Markdown, with formulas between dollar signs.
    """

    name: str
    figure: Figure
    caption: str

    def save(self, out: Path) -> None:
        """Write ``NAME.svg``, ``NAME-dark.svg`` and ``NAME.png`` into a folder: the same bytes for the same figure."""
        for suffix, content in files(self.figure).items():
            write_whole(out / f"{self.name}{suffix}", content)


def propositions(first: Sequence[Curve], second: Sequence[Curve]) -> list[Drawing]:
    """Return the drawings of propositions 1 and 2.

    Args:
        first: curves at t < 1.
        second: curves at t = 1: three points, then icons.
    """
    slope, points, icons = (
        float(np.mean([curve.exponent[0] for curve in curves])) for curves in (first, second[:1], second[1:])
    )
    return [
        _proposition_1(
            first,
            "L1 distance between the exact reverse step and the one Gaussian that samplers use, for three points on a line "
            rf"and $t < 1$. It vanishes as the step shrinks, with slope {slope:.2f}. That is far below the bound "
            r"$C \sqrt{\sigma_{t|s}}$ (dashed), where $C$ comes from Pinsker's inequality. At $t = 1$ every step has "
            r"$\sigma_{t|s} = 1$ (dotted), so this bound does not help there.",
        ),
        _proposition_2(
            second,
            rf"The same distance at $t = 1$. It vanishes with $\alpha_s$, with slope {points:.2f} for three points and "
            rf"{icons:.2f} for icons: the Gaussian step is right at $t = 1$ too. Dashed: the bound $C \sqrt{{\alpha_s}}$.",
        ),
    ]


def _proposition_1(curves: Sequence[Curve], caption: str) -> Drawing:
    figure, axis = _distances(curves, "Proposition 1: $t < 1$", r"$\sigma_{t|s}$")
    axis.axvline(1, linestyle=":", color=INK)
    return Drawing("proposition_1", figure, caption)


def _proposition_2(curves: Sequence[Curve], caption: str) -> Drawing:
    figure, _ = _distances(curves, "Proposition 2: $t = 1$", r"$\alpha_s$")
    return Drawing("proposition_2", figure, caption)


@style()
def _distances(curves: Sequence[Curve], title: str, size: str):
    figure, axis = axes(size, "L1 distance", height=4.2)
    for curve, color in zip(curves, SERIES, strict=False):
        widths = curve.half_width if curve.half_width.any() else None
        axis.errorbar(curve.size, curve.distance, yerr=widths, fmt="o-", color=color, label=curve.name)
        bound = curve.square_root_constant * np.sqrt(curve.size)
        axis.plot(curve.size, bound, "--", linewidth=1, color=color, alpha=0.8)
    axis.plot([], [], "--", color=INK, linewidth=1, label=rf"$C \sqrt{{{size.strip('$')}}}$, a bound")
    axis.set(xscale="log", yscale="log", title=title)
    figure.legend(loc="outside lower center", ncols=1 + (len(curves) > 2))
    return figure, axis


@style()
def removable(routes: Routes) -> Drawing:
    """Return the drawing of three routes to y_bar as t -> 1."""
    figure, axis = axes("$1 - t$", r"relative error of $\bar y$", height=4.2)
    for (name, error), color in zip(routes.error.items(), SERIES, strict=False):
        line = "-" if "float32" in name else ":"
        line = "--" if name == "score, float32" else line  # it covers epsilon's
        axis.plot(routes.gap, np.maximum(error, 1e-17), line, marker="o", color=color, label=name)
    axis.plot(routes.gap, np.maximum(routes.to_limit, 1e-17), "--", color=INK, label=r"$\bar y$ to its limit")
    axis.set(xscale="log", yscale="log", title="$t = 1$ is removable")
    axis.invert_xaxis()
    figure.legend(loc="outside lower center", ncols=2)
    caption = (
        r"A perfect network of each kind on icons, its output rounded to its dtype and converted to $\bar y = E[x_0 \mid x_t]$. "
        "The error is relative to the spread of the data. From epsilon or score the conversion divides by "
        r"$\alpha$, so the error grows as $1 / \alpha$; in float32 it ends at $0 / \alpha$, average grey. From x-prediction the "
        r"error stays at the precision of the dtype. Dashed: the distance of $\bar y$ from its limit, the mean of the data. It "
        "goes to 0, so the singularity is removable."
    )
    return Drawing("removable", figure, caption)


@style()
def landing(found: Landing) -> Drawing:
    """Return the drawing of the way to t = 0."""
    figure, axis = axes("$t$", "", height=3.6)
    shown = found.t > 0
    axis.plot(found.t[shown], found.std[shown], color=WITHOUT, label="standard deviation of the step to $t$")
    axis.plot(found.t[shown], found.distance[shown], color=MEAN, label="distance to the nearest picture, per pixel")
    last = max(found.distance[-1], 1e-15)
    axis.set(xscale="log", yscale="log", title="$t = 0$: the last step lands on the data")
    axis.invert_xaxis()
    axis.legend()
    caption = (
        "Ancestral sampling of icons with the exact posterior. Towards $t = 0$ the standard deviation of each step falls to 0, "
        f"and the state lands on a picture of the data, within {last:.0e} per pixel. The step at $t = 0$ is a Dirac, which is "
        "inherent and wanted."
    )
    return Drawing("landing", figure, caption)


def brightness(dark: dict[str, Start], every: dict[str, Start]) -> list[Drawing]:
    """Return histograms of the pictures' mean luma by how sampling starts.

    Args:
        dark: starts when the data are pictures on dark backgrounds, as a prompt makes them.
        every: starts when the data are all pictures.
    """
    of_dark = (
        "Mean luma of the pictures that exact sampling ends at, by how it starts at SD-1.5's last $\\alpha$. The data are icons "
        "of 64 x 64 pixels on dark backgrounds; outlined: the real ones. From $N(0, I)$ the pictures come out too bright "
        f"({dark['off'].mean:.0f} instead of {dark['real'].mean:.0f}); the paper's step corrects it ({dark['mean'].mean:.0f}). "
        "KL: from the true distribution of the first state's mean to the one that sampling starts from."
    )
    of_every = (
        "The same for icons on all backgrounds, whose mean is grey anyway. The paper's step changes nothing here: without it and "
        f"with it the variety is lost (standard deviation {every['off'].std:.0f} and {every['mean'].std:.0f} instead of "
        f"{every['real'].std:.0f}). With the data's own variance in the lowest frequencies it is {every['moments'].std:.0f}."
    )
    return [
        Drawing("brightness", _histograms(dark), of_dark),
        Drawing("brightness_all", _histograms(every), of_every),
    ]


@style()
def _histograms(starts: dict[str, Start]) -> Figure:
    figure, panels = grid(2, 2, height=4.0, sharex=True, sharey=True)
    real = starts["real"]
    bins = np.linspace(0, 255, 18)
    for axis, name in zip(panels.flat, STARTS, strict=True):
        start = starts[name]
        axis.hist(start.mean_luma, bins, weights=start.shares, color=COLORS[name], alpha=0.85)
        axis.hist(real.mean_luma, bins, weights=real.shares, histtype="step", color=INK, linewidth=1)
        kl = "" if name == "real" else f"\nKL {start.kl:.2f}"
        words = f"{start.mean:.0f} ± {start.std:.0f}{kl}"
        axis.text(0.97, 0.95, words, transform=axis.transAxes, ha="right", va="top")
        axis.set(title=TITLES[name], xlim=(0, 255))
        axis.set_xticks([0, 100, 200])
        axis.margins(y=0.3)
    figure.supxlabel("mean luma", fontsize=9.5)
    figure.supylabel("share", fontsize=9.5)
    return figure


@style()
def displacement(found: dict[int, np.ndarray]) -> Drawing:
    """Return the drawing of d over timesteps, a line per side of the latents."""
    figure, axis = axes("timestep", r"$d = \alpha n / \sigma$", height=3.6)
    for (side, values), color in zip(found.items(), SERIES, strict=False):
        axis.plot(np.arange(len(values)), values, color=color, label=f"$n = {side}$")
    axis.set(yscale="log", title="The bias grows with resolution", xlim=(400, 1010), ylim=(0.5, 500))
    axis.axhline(1, linestyle=":", color=INK)
    axis.legend(ncols=2)
    last = ", ".join(f"{values[-1]:.1f} for $n = {side}$" for side, values in found.items())
    caption = (
        "What sampling from $N(0, I)$ ignores: by how many standard deviations of the noise the mean of an $n \\times n$ latent "
        "channel is displaced, per unit of that mean, on SD-1.5's schedule. It doubles with $n$ and falls with the "
        f"signal-to-noise ratio. At the last timestep it is {last}."
    )
    return Drawing("displacement", figure, caption)


@style()
def module(fits: Sequence[Fit]) -> Drawing:
    """Return the drawing of the embedded module against the means of real pictures, a row per prompt."""
    sizes = {"width_ratios": [1, 1, 4.2], "wspace": 0, "hspace": 0}
    figure, panels = grid(len(fits), 3, height=0.76 * len(fits), gridspec_kw=sizes)
    for (real, predicted, words), fit in zip(panels, fits, strict=True):
        for axis, picture in ((real, fit.real), (predicted, fit.predicted)):
            axis.imshow(picture.numpy().transpose(1, 2, 0), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            axis.spines[:].set(visible=True, linewidth=0.5, alpha=0.4)
        errors = f"noise {fit.over_noise:.2f}, mean {fit.off_mean:.2f}, channels {fit.off_grey:.2f}"
        text = "\n".join([*textwrap.wrap(fit.prompt, 36), errors])
        words.text(0.02, 0.5, text, va="center", fontsize=SMALL, transform=words.transAxes)
        words.axis("off")
    caption = (
        "The embedded module, prompt by prompt. Left, the mean latent of the prompt's real pictures, decoded; right, the mean of "
        "the module's output over 64 noises. Noise: how much the output depends on the noise (0 for the exact minimiser). "
        "Mean: its distance from the real mean, relative to it. Channels: the same for the means of the channels alone."
    )
    return Drawing("module", figure, caption)
