"""The figures of ``docs/theory.md``. Each says under its axes what to see."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..files import write_whole
from .brightness import STARTS, Start
from .checks import Curve, Landing, Routes
from .module import Fit

COLOURS = {"real": "#57534e", "off": "#c2410c", "mean": "#0f766e", "moments": "#4338ca"}
SERIES = ("#c2410c", "#0f766e", "#4338ca", "#a16207", "#be185d")


def save(figure: Figure, stem: Path) -> None:
    """As PNG and SVG, the same bytes for the same figures."""
    with mpl.rc_context({"svg.hashsalt": "singdiffusion"}):
        for suffix, options in (
            ("png", {"dpi": 110, "metadata": {"Software": None}}),
            ("svg", {"metadata": {"Date": None, "Creator": None}}),
        ):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, **options)
            write_whole(stem.with_suffix(f".{suffix}"), buffer.getvalue())


def _figure(columns: int, caption: str, width: float = 5.2, height: float = 4.4):
    figure = Figure(figsize=(columns * width, height), facecolor="white")
    lines = textwrap.wrap(caption, int(columns * width * 13.5))
    axes = figure.subplots(1, columns, squeeze=False)[0]
    foot = 0.05 + 0.17 * len(lines) / height
    figure.subplots_adjust(
        left=0.8 / (columns * width), right=1 - 0.15 / (columns * width), top=0.92, bottom=foot + 0.13, wspace=0.22
    )
    figure.text(0.15 / (columns * width), 0.02, "\n".join(lines), fontsize=9, va="bottom", color="#292524")
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def propositions(first: Sequence[Curve], second: Sequence[Curve]) -> Figure:
    """Propositions 1 and 2 side by side."""
    slopes = [f"{np.mean([c.exponent[0] for c in curves]):.2f}" for curves in (first, second[:1])]
    caption = (
        "L1 distance between the exact reverse step and the single Gaussian that samplers use. Left: for t < 1 it vanishes as the step "
        f"shrinks, far below C sqrt(sigma_t|s), C from Pinsker's inequality; the fitted slope is {slopes[0]}. At t = 1 every step has sigma_t|s = 1 (dotted), "
        f"so that bound says nothing there. Right: at t = 1 the distance vanishes with alpha_s instead, with slope {slopes[1]} for three points "
        f"and {second[1].exponent[0]:.2f} for icons: the Gaussian step is right at t = 1 too."
    )
    figure, (left, right) = _figure(2, caption, height=5.0)
    for axis, curves in ((left, first), (right, second)):
        for curve, colour in zip(curves, SERIES, strict=False):
            axis.errorbar(
                curve.size, curve.distance, yerr=curve.half_width if curve.half_width.any() else None,
                fmt="o-", markersize=3.5, linewidth=1.2, color=colour, label=curve.name,
            )  # fmt: skip
            axis.plot(
                curve.size,
                curve.square_root_constant * np.sqrt(curve.size),
                "--",
                linewidth=0.9,
                color=colour,
                alpha=0.7,
            )
        axis.plot([], [], "--", color="#57534e", linewidth=0.9, label="C sqrt(size), a bound")
        axis.set(xscale="log", yscale="log", ylabel="L1 distance")
        axis.legend(fontsize=8, frameon=False)
    left.axvline(1, linestyle=":", color="#57534e")
    left.set(title="Proposition 1: t < 1", xlabel="sigma_t|s")
    right.set(title="Proposition 2: t = 1", xlabel="alpha_s")
    return figure


def removable(routes: Routes) -> Figure:
    """Three routes to y_bar as t -> 1."""
    caption = (
        "A perfect network of each kind, rounded to its dtype, turned into y_bar = E[x_0 | x_t], on icons; error relative to the "
        "spread of the data. By epsilon or score it is divided by alpha, and the error grows as 1 / alpha (in float32 until nothing is left of "
        "y_bar and 0 / alpha, average grey, comes out); by x-prediction it is as good as the dtype everywhere. The dashed line is y_bar's own "
        "distance from its limit, the mean of the data: it goes to 0, so the singularity is removable."
    )
    figure, (axis,) = _figure(1, caption, width=8.6, height=5.0)
    figure.subplots_adjust(right=0.72)
    for (name, error), colour in zip(routes.error.items(), SERIES, strict=True):
        style = "o-" if "float32" in name else "s:"
        style = "o--" if name == "score, float32" else style  # it covers epsilon's
        axis.plot(routes.gap, np.maximum(error, 1e-17), style, markersize=3.5, linewidth=1.2, color=colour, label=name)
    axis.plot(
        routes.gap, np.maximum(routes.to_limit, 1e-17), "--", color="#57534e", label="y_bar's distance from its limit"
    )
    axis.set(xscale="log", yscale="log", xlabel="1 - t", ylabel="relative error of y_bar", title="t = 1 is removable")
    axis.invert_xaxis()
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def landing(found: Landing) -> Figure:
    """The way to t = 0."""
    caption = (
        "Ancestral sampling of icons with the exact posterior. Towards t = 0 each step's standard deviation falls to 0, and the state "
        "lands on a picture of the data: the step at t = 0 is a Dirac, which is inherent and wanted."
    )
    figure, (axis,) = _figure(1, caption, width=7.6)
    shown = found.t > 0
    axis.plot(
        found.t[shown], found.std[shown], color=COLOURS["off"], label="standard deviation of the step that led to t"
    )
    axis.plot(
        found.t[shown], found.distance[shown], color=COLOURS["mean"], label="distance to the nearest picture, per pixel"
    )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="t",
        title=f"t = 0: the last step lands within {max(found.distance[-1], 1e-15):.0e} of the data",
    )
    axis.invert_xaxis()
    axis.legend(fontsize=8, frameon=False)
    return figure


def brightness(dark: dict[str, Start], every: dict[str, Start]) -> Figure:
    """Brightness of the pictures by how sampling starts, given a prompt and without one."""
    caption = (
        "Mean brightness of the pictures where exact sampling ends, by how it starts at SD-1.5's last alpha (icons on plain grounds, 64 x 64; "
        f"outlined: the real ones). Above, pictures of dark grounds only: from N(0, I) they come out too bright ({dark['off'].mean:.0f} for "
        f"{dark['real'].mean:.0f}), the paper's step puts that right ({dark['mean'].mean:.0f}). Below, all pictures, whose mean is grey anyway: here "
        f"the paper's step changes nothing, and the variety is lost with it as without (standard deviation {every['mean'].std:.0f} and "
        f"{every['off'].std:.0f} for {every['real'].std:.0f}); with the data's own variance in the lowest frequencies it is {every['moments'].std:.0f}. "
        "KL: from the true distribution of the first state's mean to the one that is started from."
    )
    figure = Figure(figsize=(11.6, 6.6), facecolor="white")
    axes = figure.subplots(2, 4)
    figure.subplots_adjust(left=0.06, right=0.99, top=0.95, bottom=0.23, wspace=0.2, hspace=0.38)
    figure.text(0.012, 0.02, "\n".join(textwrap.wrap(caption, 165)), fontsize=9, va="bottom", color="#292524")
    for row, starts, words in zip(axes, (dark, every), ("dark grounds", "all pictures"), strict=True):
        _histograms(row, starts, words)
    return figure


def _histograms(axes, starts: dict[str, Start], words: str) -> None:
    real = starts["real"]
    bins = np.linspace(0, 255, 18)
    titles = {"off": "off: N(0, I)", "mean": "mean (the paper)", "moments": "moments (ours)", "real": "real pictures"}
    top = max(np.histogram(s.mean_luma, bins, weights=s.shares)[0].max() for s in starts.values())
    for axis, name in zip(axes, STARTS, strict=True):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        start = starts[name]
        axis.hist(start.mean_luma, bins, weights=start.shares, color=COLOURS[name], alpha=0.85)
        axis.hist(real.mean_luma, bins, weights=real.shares, histtype="step", color=COLOURS["real"], linewidth=1)
        kl = "" if name == "real" else f"\nKL {start.kl:.2f}"
        axis.set(title=titles[name], xlabel="mean grey", ylim=(0, top * 1.08), xlim=(0, 255))
        axis.text(
            0.97,
            0.95,
            f"{start.mean:.0f} ± {start.std:.0f}{kl}",
            transform=axis.transAxes,
            ha="right",
            va="top",
            fontsize=9,
        )
    axes[0].set(ylabel=f"share, {words}")


def displacement(found: dict[int, np.ndarray]) -> Figure:
    """d over timesteps and sizes."""
    last = {side: values[-1] for side, values in found.items()}
    caption = (
        "What sampling from N(0, I) ignores: by how many standard deviations of the noise the mean of an n x n latent channel is displaced, per "
        "unit of that mean, on SD-1.5's schedule. It doubles with n and falls with the signal-to-noise ratio; at the last timestep it is "
        + ", ".join(f"{value:.1f} for n = {side}" for side, value in last.items())
        + "."
    )
    figure, (axis,) = _figure(1, caption, width=7.6)
    for (side, values), colour in zip(found.items(), SERIES, strict=False):
        axis.plot(np.arange(len(values)), values, color=colour, label=f"n = {side}")
    axis.set(yscale="log", xlabel="timestep", ylabel="d = alpha n / sigma", title="The bias grows with resolution")
    axis.set_xlim(400, 1010)
    axis.set_ylim(0.5, 500)
    axis.axhline(1, linestyle=":", color="#57534e")
    axis.legend(fontsize=8, frameon=False)
    return figure


def module(fits: Sequence[Fit]) -> Figure:
    """The embedded module against the means of real pictures."""
    caption = (
        "The embedded module, prompt by prompt. Above, the mean latent of the prompt's real pictures, decoded; below, what the module says, "
        "averaged over 64 noises. Under each: by how much its output hangs on the noise (0 for the exact minimiser), and how far it is from the "
        "real mean, as a whole and in the channels' means alone, relative to the real mean."
    )
    figure, axes = _figure(len(fits), caption, width=1.75, height=5.1)
    figure.subplots_adjust(left=0.04, right=0.99, wspace=0.08, bottom=0.3, top=0.86)
    for words, height in (("real mean", 0.72), ("module", 0.44)):
        figure.text(0.015, height, words, rotation=90, va="center", fontsize=9)
    for axis, fit in zip(axes, fits, strict=True):
        both = np.concatenate([fit.real.numpy(), np.ones((3, 3, fit.real.shape[2])), fit.predicted.numpy()], 1)
        axis.imshow(both.transpose(1, 2, 0), interpolation="nearest")
        axis.set_title("\n".join(textwrap.wrap(fit.prompt, 22)), fontsize=7.5)
        axis.set_xlabel(f"noise {fit.over_noise:.2f}\nmean {fit.off_mean:.2f}\ngrey {fit.off_grey:.2f}", fontsize=8)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.grid(visible=False)
    return figure
