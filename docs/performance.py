"""Write docs/performance.md from what the benchmarks measured; ``make performance`` runs them first."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from singdiffusion import SingDiffusion, plots, tiny

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import quality as measured  # pyright: ignore[reportMissingImports]  (in benchmarks)

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"
BATCH = 64  # of both presets, tiny-unet and tiny-decoder
OURS, TRANSFORMER, PAPER = "perceptron (ours)", "transformer, 4 x 4 cells per query", "the paper's U-Net"
MEAN, MOMENTS = "decoder, mean", "decoder, moments"

PAGE = """\
# What it costs, and what it does

*Written by `make performance` from what `make bench-step`, `make bench-quality` and `make bench-designs` measure. Every figure
is a ratio or a difference within one run on two CPU cores. The weights are those in the package.*

*The paper* is Zhang, Yin, Li, Xie, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR
2024 ([arXiv 2403.08381](https://arxiv.org/abs/2403.08381)).

## The first step

At the size of Stable Diffusion 1.5 (random weights, bfloat16, latents of 64 x 64, guidance with a negative prompt), relative
to one guided step of the base's own U-Net, and in addition to the memory of the base pipeline:

| first step | time, of a guided base step | extra memory, MiB |
|---|---|---|
| published: two passes of the full time-free U-Net | {published_over_base_step:.2f} | {published_extra_mib:,.0f} |
| the same U-Net, prompt and negative prompt in one batch | {batched_over_base_step:.2f} | {published_extra_mib:,.0f} |
| `MeanDecoder` (`sd15`, {decoder_parameters:.1f} M parameters, float32), mean and covariance | {decoder_over_base_step:.5f} | {decoder_extra_mib:,.0f} |

The decoder takes {decoder_ms:.1f} ms, {decoder_percent:.3f} % of a base step. The published first step takes {published_over_decoder:,.0f} times as long.

The decoder's step on a GPU is limited by the host: on one NVIDIA H200 it takes 2.5 % to 13 % of a guided base step
([measured on a GPU](gpu.md#the-first-step)).

**There is no decoder for Stable Diffusion's latents in this package.** It has to be trained first ([how](training.md),
`--config sd15-decoder`; [what that costs](scale.md)). It is not shown that {decoder_parameters:.1f} million parameters (6.7 without the covariance)
suffice for captions from the web.

A whole picture of the embedded model, time with SingDiffusion over time without, in {pairs} pairs of pictures:

| module | 10 steps | 50 steps | seconds, 50 steps, without and with |
|---|---|---|---|
| `tiny-unet`, mean | {unet_10:.3f} | {unet_50:.3f} | {unet_off:.2f}, {unet_on:.2f} |
| `tiny-decoder`, moments | {decoder_10:.3f} | {decoder_50:.3f} | {decoder_off:.2f}, {decoder_on:.2f} |

{first_picture}
## Training: which decoder

$E[x_0 \\mid \\text{{prompt}}]$ does not depend on the noise, so a network without noise as input can reach the same minimum of the loss. Five
such networks were trained on the same 384,000 pictures of the embedded world in the same order. The paper's U-Net, as it
ships, was trained on as many.

- `loss`: mean squared error on 2,048 held-out pictures.
- `excess`: how far the loss is above that of the best constant per prompt (± standard error).
- Speeds were measured in turn in one run, on one thread.

| network | parameters, M | forward, MFLOP | pictures/s in training | loss | excess |
|---|---|---|---|---|---|
{designs}

{design_words}

{shipped_words}

## What it does to pictures

Pictures by the embedded model ({steps} DDIM steps, {each} pictures per caption, 100 captions per group), compared with real ones by
their mean luma. Captions of three groups:

- *stated*: the caption names the background or the light.
- *open*: it does not.
- *new*: it does, and no training picture had this caption.

Figures, on the scale of luma, 0 to 255:

- **W1**: Wasserstein-1 distance between the mean lumas of a group, painted and real.
- **Miss**: distance between the mean luma of a caption's painted and real pictures, mean over captions. For open captions
  even {each} real pictures miss by {real_open_miss:.0f}.
- **Spread**: standard deviation over the pictures of one caption.
- **Paper**: miss summed over the paper's four prompts, 16 pictures each.
- **Fréchet**: Fréchet distance over {drawn} pictures, on features of an EfficientNet-Lite0. It is not an FID, and comparable only
  within this table.

{quality}

{effect_words}

{harm_words}

### Where `moments` falls short

{short_words}

### Guidance and the covariance

Guidance follows the score $s_{{\\text{{neg}}}} + w (s_{{\\text{{pos}}}} - s_{{\\text{{neg}}}})$. As $t \\to 1$, the scores become those of normal distributions, whose
means differ in the first order of $\\alpha$ and whose covariances differ in the order of $\\alpha^2$. The guided distribution then
has the mean $\\mu_{{\\text{{neg}}}} + w (\\mu_{{\\text{{pos}}}} - \\mu_{{\\text{{neg}}}})$ and the covariance $\\Sigma_{{\\text{{neg}}}} + w (\\Sigma_{{\\text{{pos}}}} - \\Sigma_{{\\text{{neg}}}})$.

The paper divides the mean by $w$, because it overflows the range of the data. The formula of the covariance fails as well. A
prompt that leaves its background open varies a little less than the empty prompt, and {scale} times this difference removes all
variation. So we take the covariance of the prompt, whatever the guidance scale. W1 of open captions at guidance scale {scale}:

| covariance | W1 |
|---|---|
| the prompt's own (`moments`) | {own:.1f} |
| by the formula, negative eigenvalues set to 0 | {extrapolated:.1f} |
| none (`mean`) | {mean:.1f} |

### In one picture

Mean luma of pictures of open captions, without guidance: real, without SingDiffusion, with `mean`, with `moments`.

![Distributions of mean luma](pictures/brightness.svg)
"""


def read(name: str) -> Any:
    """Return what a benchmark wrote."""
    return json.loads((BUILD / name).read_text())


def cells(words: list[Any]) -> str:
    """Return a table row."""
    return "| " + " | ".join(str(word) for word in words) + " |"


def paragraphs(*texts: str) -> str:
    """Return paragraphs, broken into lines."""
    return "\n\n".join(textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) for text in texts)


# -- the first step ---------------------------------------------------------------------------------------------------


def step_figures(step: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the first step, from ``bench-step.json``."""
    figures = step | {
        "decoder_parameters": step["decoder_parameters"] / 1e6,
        "decoder_ms": 1000 * step["decoder_seconds"],
        "decoder_percent": 100 * step["decoder_over_base_step"],
    }
    for network in ("unet", "decoder"):
        for steps in (10, 50):
            figures[f"{network}_{steps}"] = step[f"{network}_{steps}_steps_on_over_off"]
        for key in ("off", "on"):
            figures[f"{network}_{key}"] = step[f"{network}_50_steps_{key}_seconds"]
    return figures


# -- training ---------------------------------------------------------------------------------------------------------


def unet_mflop() -> float:
    """Return the cost of a forward of the embedded U-Net, in MFLOP."""
    network = SingDiffusion.from_pretrained("tiny-unet").module.network
    with FlopCounterMode(display=False) as counter:
        network.predict(torch.zeros(1, 4, 16, 16), torch.zeros(1, 24, 128))
    return counter.get_total_flops() / 1e6


def designs(found: dict[str, Any], unet: dict[str, Any]) -> str:
    """Return the table of the networks."""
    rows = [
        [name, f"{of['parameters'] / 1e6:.2f}", f"{of['forward_mflop']:.1f}", f"{of['pictures_per_second']:,.0f}",
         f"{of['loss']:.4f}", f"{of['excess']:.4f} ± {of['excess_error']:.4f}"]
        for name, of in found.items() if "loss" in of
    ]  # fmt: skip
    speed = found[PAPER]["pictures_per_second"]
    rows.append(
        [f"{PAPER} (`tiny-unet`)", "2.38", f"{unet_mflop():.0f}", f"{speed:,.0f}", f"{unet['loss']:.4f}",
         f"{unet['excess']:.4f} ± {unet['excess_error']:.4f}"]
    )  # fmt: skip
    return "\n".join(map(cells, rows))


def design_words(found: dict[str, Any]) -> str:
    """Return why the perceptron is ``MeanDecoder``."""
    losses = {name: of["loss"] for name, of in found.items() if "loss" in of}
    behind = losses[OURS] / min(losses.values()) - 1
    place = f"is within {behind:.1%} of the lowest loss" if behind else "has the lowest loss"
    speed = {name: found[name]["pictures_per_second"] for name in (OURS, TRANSFORMER, PAPER)}
    return paragraphs(
        f"`MeanDecoder` is the perceptron on the last embedding and the mean of all embeddings. It is simple, {place}, and trains on "
        f"{speed[OURS] / speed[TRANSFORMER]:.1f} times as many pictures per second as the transformer with a similar loss, and "
        f"{speed[OURS] / speed[PAPER]:.0f} times as many as the U-Net. A transformer can attend to single words. That did not help on these "
        "short captions, but may on captions from the web."
    )


def shipped_words(unet: dict[str, Any], decoder: dict[str, Any], validation: list[dict[str, Any]]) -> str:
    """Return the figures of the decoder that ships, beside those of the U-Net."""
    first = next(row["step"] for row in validation if row["loss"] <= unet["loss"])
    seen, of_unet = int(decoder["step"]) * BATCH, int(unet["step"]) * BATCH
    return paragraphs(
        f"The decoder that ships is narrower than in the table (1.9 M parameters) and also predicts the covariance. It was trained for "
        f"{int(decoder['step']):,} steps on {seen:,} pictures. Its loss is {decoder['loss']:.4f}, its excess {decoder['excess']:.4f} ± "
        f"{decoder['excess_error']:.4f}. That took {decoder['seconds']:.0f} s on one core; the U-Net's {unet['loss']:.4f} took "
        f"{unet['seconds']:,.0f} s, {unet['seconds'] / decoder['seconds']:.0f} times as long. The decoder reached the U-Net's loss after "
        f"{(first - 1000) * BATCH:,} to {first * BATCH:,} pictures, the U-Net after {of_unet:,}.",
        f"Of the held-out coefficients {decoder['coverage_50']:.1%} are within the predicted central 50 % interval, and "
        f"{decoder['coverage_90']:.1%} within the 90 % interval. Their squared error over the predicted variance is "
        f"{decoder['dispersion']:.2f} (ideal: 1).",
    )


# -- pictures ---------------------------------------------------------------------------------------------------------


def quality_row(of: dict[str, Any]) -> list[float]:
    """Return the figures of the three groups."""
    stated, open_, new = of["stated"], of["open"], of["new"]
    return [
        stated["w1"], stated["miss"], stated["within"], open_["w1"], open_["within"], open_["mean"], new["w1"], new["miss"],
    ]  # fmt: skip


def quality_tables(found: dict[str, Any]) -> str:
    """Return a table per guidance scale."""
    parts = []
    head = [
        "first step", "stated: W1", "stated: miss", "stated: spread", "open: W1", "open: spread", "open: mean", "new: W1", "new: miss",
        "paper", "Fréchet",
    ]  # fmt: skip
    for scale in ("1", "7.5"):
        guidance = "Without guidance (scale 1)" if scale == "1" else f"With guidance (scale {scale})"
        lines = [f"{guidance}:\n", cells(head), cells(["---"] * len(head))]
        for name, of in found[scale].items():
            if name != measured.EXTRAPOLATED:
                row = [*quality_row(of), of["paper_miss"], of["frechet"]]
                lines.append(cells(["without" if name == "off" else name, *(f"{number:.1f}" for number in row)]))
        real = (f"{number:.1f}" for number in quality_row(found["real"]))
        lines.append(cells(["*as many real pictures*", *real, "", ""]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def effect_words(found: dict[str, Any]) -> str:
    """Return what the tables show, with a table of ``mean`` beside ``moments``."""
    head = [
        f"{guidance}: `{method}`"
        for guidance in ("without guidance", "with guidance")
        for method in ("mean", "moments")
    ]
    rows = [["", *head], ["---"] * 5]
    figures = {
        "W1, open captions": lambda of: of["open"]["w1"],
        "W1, stated captions": lambda of: of["stated"]["w1"],
        "Fréchet distance": lambda of: of["frechet"],
    }
    for name, figure in figures.items():
        rows.append([name, *(f"{figure(found[scale][key]):.1f}" for scale in ("1", "7.5") for key in (MEAN, MOMENTS))])
    ratios = [found[scale][MOMENTS]["open"]["w1"] / found[scale][MEAN]["open"]["w1"] for scale in ("1", "7.5")]
    before = paragraphs(
        "`mean`, the paper's step, corrects only what a caption states, with either network. Pictures of open captions are all about as grey "
        f"as without it. With `moments` their W1 is {ratios[0]:.2f} of that with `mean` without guidance, and {ratios[1]:.2f} of it with "
        "guidance; other figures change less. So `moments` is the default for modules that predict the covariance."
    )
    return before + "\n\n" + "\n".join(map(cells, rows))


def harm_words() -> str:
    """Return for which captions that state the background or light ``moments`` misses by 5 more than ``mean``, without guidance."""
    worse: dict[str, float] = {}
    count, spread = 0, 0.0
    for group in ("stated", "new"):
        known = tiny.captions()[group]
        real = np.array(list(known.values())).mean(1)
        misses = []
        for name in (MEAN, MOMENTS):
            lumas = measured.luma(measured.painted(BUILD / "quality", name, 1.0, {})[group])
            misses.append(np.abs(lumas.reshape(len(real), -1).mean(1) - real))
        by = misses[1] - misses[0]
        count += len(by)
        spread = max(spread, *(float(np.std(lumas)) for lumas in known.values()))
        worse |= {caption: float(more) for caption, more in zip(known, by, strict=True) if more > 5}
    listed = ", ".join(f'"{caption}" by {more:.0f}' for caption, more in sorted(worse.items(), key=lambda row: -row[1]))
    return paragraphs(
        f"For {len(worse)} of {count} captions that state the background or light, the miss of `moments` is more than 5 above that of `mean`, "
        f"without guidance, over {measured.EACH} pictures each: {listed}. The light of a photo is a range of exposures: real pictures of one "
        f"caption have a standard deviation of up to {spread:.0f}."
    )


def short_words(found: dict[str, Any]) -> str:
    """Return what is missing with ``moments``."""
    ceiling, noise = found["ceiling"], found["real"]["open"]["w1"]
    ratio = found["1"][MOMENTS]["open"]["w1"] / found["1"][MEAN]["open"]["w1"]
    return paragraphs(
        "The aim was to reduce the W1 of open captions to a fifth of that of `mean`. "
        f"Without guidance it is {ratio:.2f}; as many real pictures as were painted have a W1 of {noise:.1f}, which is not 0 either.",
        "What is missing is the shape of the distribution, not its moments. A background has one of sixteen colours, and for logos black and "
        "white are the most frequent. A normal distribution puts probability on greys that no picture has, and beyond white.",
        f"A test on {ceiling['pictures']:.0f} pictures of open captions shows how much that costs. If the 4 x 4 lowest frequencies of the "
        f"start are those of real pictures, W1 is {ceiling['true']:.1f}; with `moments` it is {ceiling['moments']:.1f}. So the error comes from "
        "drawing these frequencies from a normal distribution, and a module that predicts a mixture would avoid it.",
    )


def open_lumas() -> dict[str, np.ndarray]:
    """Return the mean luma of pictures of open captions without guidance: title -> values, real pictures first."""
    titles = {"off": "without", MEAN: "mean", MOMENTS: "moments"}
    lumas = {"real pictures": np.array(list(tiny.captions()["open"].values())).ravel()}
    for name, title in titles.items():
        lumas[title] = measured.luma(measured.painted(BUILD / "quality", name, 1.0, {})["open"])
    return lumas


@plots.style()
def figure(lumas: dict[str, np.ndarray]) -> Any:
    """Draw a histogram for each of ``open_lumas``."""
    drawn, panels = plots.grid(2, 2, height=3.6, sharex=True, sharey=True)
    colors = (plots.REAL, plots.WITHOUT, plots.MEAN, plots.MOMENTS)
    for axis, (title, values), color in zip(panels.flat, lumas.items(), colors, strict=True):
        axis.hist(values, bins=np.linspace(0, 255, 26), density=True, color=color, alpha=0.85)
        axis.set(title=f"{title}: {values.mean():.0f} ± {values.std():.0f}", xlim=(0, 255), yticks=[])
        axis.spines["left"].set_visible(False)
    drawn.supxlabel("mean luma", fontsize=9.5)
    return drawn


def page() -> str:
    """Return the page."""
    found, compared = read("quality.json"), read("designs.json")
    runs = json.loads((Path(tiny.__file__).parent / "training.json").read_text())
    unet, decoder = runs["module"][-1], runs["decoder"][-1]
    lines = (BUILD / "tiny" / "run-decoder" / "validation.jsonl").read_text().splitlines()
    guided = found["7.5"]
    return PAGE.format(
        first_picture=first_picture(),
        **step_figures(read("bench-step.json")),
        designs=designs(compared, unet),
        design_words=design_words(compared),
        shipped_words=shipped_words(unet, decoder, [json.loads(line) for line in lines]),
        steps=measured.STEPS,
        each=measured.EACH,
        drawn=measured.DRAWN,
        real_open_miss=found["real"]["open"]["miss"],
        quality=quality_tables(found),
        effect_words=effect_words(found),
        harm_words=harm_words(),
        short_words=short_words(found),
        scale="7.5",
        own=guided[MOMENTS]["open"]["w1"],
        extrapolated=guided[measured.EXTRAPOLATED]["open"]["w1"],
        mean=guided[MEAN]["open"]["w1"],
    )


FIRST_PICTURE = """\
## Time to the first picture

One picture of the embedded model in 20 steps, each in a new process on two CPU cores, medians of {pairs}
(`python benchmarks/imports.py --json docs/imports.json`):

| | seconds | imports, seconds | modules imported |
|---|---|---|---|
{rows}

`generate` takes {ratio:.2f} times as long as diffusers alone. What it adds to the imports is {added:.1f} s; nearly all others are diffusers' and
torch's own, and the pipeline needs them. `--help` and `--version` import neither.
"""
FIRST_ROWS = {
    "alone": "diffusers alone, no first step",
    "before": "`singdiffusion generate` of 0.1.0, with the first step",
    "generate": "`singdiffusion generate`, with the first step",
}


def first_picture() -> str:
    """Return the section about imports, from imports.json; tests/test_docs.py compares the page with it."""
    found = json.loads((HERE / "imports.json").read_text())
    row = "| {label} | {seconds:.2f} | {import_seconds:.2f} | {modules:,} |"
    rows = [row.format(label=label, **found[name]) for name, label in FIRST_ROWS.items() if name in found]
    alone, ours = found["alone"], found["generate"]
    return FIRST_PICTURE.format(
        pairs=found["pairs"],
        rows="\n".join(rows),
        ratio=ours["seconds"] / alone["seconds"],
        added=ours["import_seconds"] - alone["import_seconds"],
    )


def main() -> None:
    """Write the page and its picture."""
    (HERE / "performance.md").write_text(page())
    drawn = plots.files(figure(open_lumas()))
    for suffix in (".svg", "-dark.svg"):
        (HERE / "pictures" / f"brightness{suffix}").write_bytes(drawn[suffix])


if __name__ == "__main__":
    main()
