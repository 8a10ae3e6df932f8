"""Write docs/performance.md from what the benchmarks found: ``make performance`` runs them before, this only writes the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from singdiffusion import SingDiffusion, tiny

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import quality as measured  # pyright: ignore[reportMissingImports]  (in benchmarks)

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"

PAGE = """\
# What it costs, and what it does

*Written by `make performance` from what `make bench-step`, `make bench-quality` and `make bench-designs` found; every figure is a ratio or a difference
within one run, on two CPU cores. The weights are those in the package.*

## The first step

At the size of Stable Diffusion 1.5 (random weights, bfloat16, latents of 64 x 64, guidance with a negative prompt), beside one guided step of the base's own
U-Net and beside the base pipeline's memory:

| first step | time, of a guided base step | extra memory, MiB |
|---|---|---|
| published: two passes of the full time-free U-Net | {published_over_base_step:.2f} | {published_extra_mib:,.0f} |
| the same U-Net, prompt and negative prompt in one batch | {batched_over_base_step:.2f} | {published_extra_mib:,.0f} |
| `MeanDecoder` (`sd15`, {decoder_parameters:.1f} M parameters, float32), mean and covariance | {decoder_over_base_step:.5f} | {decoder_extra_mib:,.0f} |

The decoder takes {decoder_ms:.1f} ms, {decoder_percent:.3f} % of a base step, and is {published_over_decoder:,.0f} times cheaper than the published way. There is **no decoder for
Stable Diffusion's latents in this package**: it has to be trained first ([how](training.md), `--config sd15-decoder`; [what that costs](scale.md)), and that
{decoder_parameters:.0f} million parameters suffice for captions from the web is not shown.

A whole picture of the embedded model, with over without, pair by pair ({pairs} pairs):

| module | 10 steps | 50 steps | seconds, 50 steps, without and with |
|---|---|---|---|
| `tiny-unet`, mean | {unet_10:.3f} | {unet_50:.3f} | {unet_off:.2f}, {unet_on:.2f} |
| `tiny-decoder`, moments | {decoder_10:.3f} | {decoder_50:.3f} | {decoder_off:.2f}, {decoder_on:.2f} |

## Training: which decoder

$E[x_0 \\mid \\text{{prompt}}]$ does not depend on the noise, so a network that never sees it has the same minimum. Five such networks were trained on the same 384,000
pictures of the embedded world in the same order; the paper's U-Net, as it ships, saw as many. `loss` is the mean squared error of 2,048 held-out pictures,
`excess` how far it is above the best constant per prompt (± standard error). Speeds were measured all in turn in one run, on one thread.

| network | parameters, M | forward, MFLOP | pictures/s in training | loss | excess |
|---|---|---|---|---|---|
{designs}

{design_words}

The decoder that ships ({shipped_steps:,} steps, {shipped_pictures:,} pictures; narrower than above, {shipped_parameters:.1f} M parameters, and with the covariance) has a loss of
{shipped_loss:.4f} and an excess of {shipped_excess:.4f} ± {shipped_excess_error:.4f}, in {shipped_seconds:.0f} s on one core, where the U-Net's {unet_loss:.4f} took {unet_seconds:,.0f} s:
{share} of the time. It passed the U-Net's loss between {before:,} and {after:,} pictures ({unet_pictures:,} the U-Net's).
Of held-out coefficients {coverage_50:.1%} lie in the central 50 % interval that it tells and {coverage_90:.1%} in the 90 % one; their squared distance from the mean is {dispersion:.2f}
times the variance told.

## What it does to pictures

Mean luma of pictures by the embedded model ({steps} DDIM steps, {each} pictures of each of 100 captions a group), against real ones. **W1**: Wasserstein-1 distance of the
group's lumas, in grey levels. **Miss**: how far a caption's mean luma is off, mean over captions (of {each} pictures each, so that for captions that leave the ground open even real
pictures miss by {real_unsaid_miss:.0f}). **Spread**: standard deviation over pictures of one caption. *said*: the caption says the background or the light; *unsaid*: it does not; *new*: it is
said, in a caption that no training picture had. *Paper*: the summed miss over the paper's four prompts, 16 pictures each. *Fréchet*: over {drawn} pictures, on features of an
EfficientNet-Lite0 (not an FID, and comparable only within this table).

{quality}

{quality_words}

### Where `moments` falls short

{short_words}

### Guidance and the covariance

Guidance follows the score $s_{{\\text{{neg}}}} + w (s_{{\\text{{pos}}}} - s_{{\\text{{neg}}}})$. In the limit $t \\to 1$ the scores are those of normal distributions whose means and covariances differ in the first order of
$\\alpha$ and of $\\alpha^2$, and the guided one has the mean $\\mu_{{\\text{{neg}}}} + w (\\mu_{{\\text{{pos}}}} - \\mu_{{\\text{{neg}}}})$ and the covariance $\\Sigma_{{\\text{{neg}}}} + w (\\Sigma_{{\\text{{pos}}}} - \\Sigma_{{\\text{{neg}}}})$. The paper divides
the mean by $w$, for it overflows. Of the covariance the formula is no better: a prompt that leaves its ground open varies a little less than no prompt at
all, and {scale} times this difference takes its variety away. So the covariance is that of the prompt, whatever the guidance scale. With guidance {scale}, captions that leave
the ground unsaid: W1 {pos:.1f} with the prompt's own covariance, {extrapolated:.1f} with the formula's (negative eigenvalues cut), {mean:.1f} with none.

### In one picture

Mean luma of pictures whose caption leaves the ground open, guidance 1: real, without, with the mean alone, with the moments.

![Distributions of brightness](pictures/brightness.png)
"""


def cells(words: list[Any]) -> str:
    return "| " + " | ".join(str(word) for word in words) + " |"


def unet_mflop() -> float:
    """Of a forward of the embedded model's U-Net."""
    module = SingDiffusion.from_pretrained("tiny-unet").module
    with FlopCounterMode(display=False) as counter:
        module.predict(torch.zeros(1, 4, 16, 16), torch.zeros(1, 24, 128))
    return counter.get_total_flops() / 1e6


def designs(found: dict[str, Any], unet: dict[str, Any]) -> str:
    """The table of the networks."""
    rows = [
        [name, f"{of['parameters'] / 1e6:.2f}", f"{of['forward_mflop']:.1f}", f"{of['pictures_per_second']:,.0f}",
         f"{of['loss']:.4f}", f"{of['excess']:.4f} ± {of['excess_error']:.4f}"]
        for name, of in found.items() if "loss" in of
    ]  # fmt: skip
    speed = found["the paper's U-Net"]["pictures_per_second"]
    rows.append(
        ["the paper's U-Net (`tiny-unet`)", "2.38", f"{unet_mflop():.0f}", f"{speed:,.0f}", f"{unet['loss']:.4f}",
         f"{unet['excess']:.4f} ± {unet['excess_error']:.4f}"]
    )  # fmt: skip
    return "\n".join(map(cells, rows))


def quality_tables(found: dict[str, Any]) -> str:
    """The tables of every guidance scale."""
    parts = []
    head = [
        "first step", "said: W1", "miss", "spread", "unsaid: W1", "spread", "mean", "new: W1", "miss", "paper", "Fréchet",
    ]  # fmt: skip
    for scale in ("1", "7.5"):
        lines = [f"Guidance {scale}:\n", cells(head), cells(["---"] * len(head))]
        for name, of in found[scale].items():
            if name == measured.EXTRAPOLATED:
                continue
            said, unsaid, new = of["said"], of["unsaid"], of["new"]
            numbers = [
                said["w1"], said["miss"], said["within"], unsaid["w1"], unsaid["within"], unsaid["mean"], new["w1"], new["miss"],
                of["paper_miss"], of["frechet"],
            ]  # fmt: skip
            lines.append(cells([name, *(f"{number:.1f}" for number in numbers)]))
        real = found["real"]
        numbers = [
            real["said"]["w1"], real["said"]["miss"], real["said"]["within"], real["unsaid"]["w1"], real["unsaid"]["within"],
            real["unsaid"]["mean"], real["new"]["w1"], real["new"]["miss"],
        ]  # fmt: skip
        lines.append(cells(["*as many real pictures*", *(f"{number:.1f}" for number in numbers), "", ""]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def read(name: str) -> Any:
    return json.loads((BUILD / name).read_text())


def figure() -> Figure:
    """Histograms of the mean luma, captions that leave the ground open, guidance 1."""
    real = np.array(list(tiny.captions()["unsaid"].values())).ravel()
    lumas = {"real": real}
    for name in ("off", "decoder, mean", "decoder, moments"):
        lumas[name] = measured.luma(measured.painted(BUILD / "quality", name, 1.0, {})["unsaid"])
    made = Figure(figsize=(10, 2.6), facecolor="white", layout="constrained")
    axes = made.subplots(1, len(lumas), sharey=True)
    for axis, (name, of) in zip(axes, lumas.items(), strict=True):
        axis.hist(of, bins=np.linspace(0, 255, 26), density=True, color="#44403c" if name == "real" else "#b45309")
        axis.set_title(f"{name}: {of.mean():.0f} ± {of.std():.0f}", fontsize=9)
        axis.set_xlabel("mean luma", fontsize=8)
        axis.set_yticks([])
        axis.spines[["top", "right", "left"]].set_visible(False)
    return made


def main() -> None:
    step, found, compared = read("bench-step.json"), read("quality.json"), read("designs.json")
    runs = json.loads((Path(tiny.__file__).parent / "training.json").read_text())
    unet, shipped = runs["module"][-1], runs["decoder"][-1]
    passed = [
        json.loads(line) for line in (BUILD / "tiny" / "run-decoder" / "validation.jsonl").read_text().splitlines()
    ]
    first = next(row["step"] for row in passed if row["loss"] <= unet["loss"])
    batch = 64
    open_, guided = found["1"], found["7.5"]
    text = PAGE.format(
        **step | {"decoder_parameters": step["decoder_parameters"] / 1e6},
        decoder_ms=1000 * step["decoder_seconds"], decoder_percent=100 * step["decoder_over_base_step"],
        unet_10=step["unet_10_steps_on_over_off"], unet_50=step["unet_50_steps_on_over_off"],
        decoder_10=step["decoder_10_steps_on_over_off"], decoder_50=step["decoder_50_steps_on_over_off"],
        unet_off=step["unet_50_steps_off_seconds"], unet_on=step["unet_50_steps_on_seconds"],
        decoder_off=step["decoder_50_steps_off_seconds"], decoder_on=step["decoder_50_steps_on_seconds"],
        designs=designs(compared, unet), design_words=design_words(compared),
        shipped_steps=int(shipped["step"]), shipped_pictures=int(shipped["step"]) * batch, shipped_parameters=1.89,
        shipped_loss=shipped["loss"], shipped_excess=shipped["excess"], shipped_excess_error=shipped["excess_error"],
        shipped_seconds=shipped["seconds"], unet_loss=unet["loss"], unet_seconds=unet["seconds"],
        share=f"1/{unet['seconds'] / shipped['seconds']:.0f}",
        before=(first - 1000) * batch, after=first * batch, unet_pictures=int(unet["step"]) * batch,
        **{key: shipped[key] for key in ("coverage_50", "coverage_90", "dispersion")},
        steps=measured.STEPS, each=measured.EACH, drawn=measured.DRAWN, real_unsaid_miss=found["real"]["unsaid"]["miss"],
        quality=quality_tables(found), quality_words=quality_words(open_, guided) + " " + harmed(), short_words=short_words(open_, found),
        scale="7.5", pos=guided["decoder, moments"]["unsaid"]["w1"], extrapolated=guided[measured.EXTRAPOLATED]["unsaid"]["w1"],
        mean=guided["decoder, mean"]["unsaid"]["w1"],
    )  # fmt: skip
    (HERE / "performance.md").write_text(text)
    figure().savefig(HERE / "pictures" / "brightness.png", dpi=110)


def design_words(found: dict[str, Any]) -> str:
    worth = {name: of["loss"] for name, of in found.items() if "loss" in of}
    best = min(worth, key=worth.__getitem__)
    ours, patches = found["perceptron (ours)"], found["transformer, 4 x 4 cells a query"]
    unet = found["the paper's U-Net"]["pictures_per_second"]
    behind = ours["loss"] / worth[best] - 1
    place = f"within {behind:.1%} of the best" if behind else "the best of them"
    return (
        f"The perceptron on the last embedding and the mean of all is {place}, simple, and learns "
        f"{ours['pictures_per_second'] / patches['pictures_per_second']:.1f} times as many pictures a second as the transformer of as good a loss, "
        f"{ours['pictures_per_second'] / unet:.0f} times as many as the U-Net: so it is `MeanDecoder`. What a query of a transformer can do that it cannot, look at one "
        "word of a long prompt, did not help with captions of this world, whose prompts are short; on captions from the web it may."
    )


def quality_words(open_: dict[str, Any], guided: dict[str, Any]) -> str:
    mean, moments = open_["decoder, mean"], open_["decoder, moments"]
    ratio = moments["unsaid"]["w1"] / mean["unsaid"]["w1"]
    return (
        "The paper's step, by either network, puts right what a caption says and nothing else: pictures whose caption leaves the ground open all come out about as grey "
        f"as without it. `moments` leaves {ratio:.2f} of their W1 without guidance and "
        f"{guided['decoder, moments']['unsaid']['w1'] / guided['decoder, mean']['unsaid']['w1']:.2f} with it; the W1 of captions that say their ground is {moments['said']['w1']:.1f} beside "
        f"{mean['said']['w1']:.1f} without guidance, {guided['decoder, moments']['said']['w1']:.1f} beside {guided['decoder, mean']['said']['w1']:.1f} with it, and the Fréchet distance "
        f"{moments['frechet']:.1f} beside {mean['frechet']:.1f}, and {guided['decoder, moments']['frechet']:.1f} beside {guided['decoder, mean']['frechet']:.1f}. So `moments` is the default where a module tells variances."
    )


def harmed() -> str:
    """Captions that say their ground or light and miss it by 5 grey levels more with ``moments`` than with ``mean``, guidance 1."""
    worse: dict[str, float] = {}
    count, spread = 0, 0.0
    for group in ("said", "new"):
        known = tiny.captions()[group]
        real = np.array(list(known.values())).mean(1)
        misses = []
        for name in ("decoder, mean", "decoder, moments"):
            lumas = measured.luma(measured.painted(BUILD / "quality", name, 1.0, {})[group])
            misses.append(np.abs(lumas.reshape(len(real), -1).mean(1) - real))
        by = misses[1] - misses[0]
        count += len(by)
        spread = max(spread, *(float(np.std(lumas)) for lumas in known.values()))
        worse |= {caption: float(more) for caption, more in zip(known, by, strict=True) if more > 5}
    told = ", ".join(f'"{caption}" by {more:.0f}' for caption, more in sorted(worse.items(), key=lambda row: -row[1]))
    return (
        f"Of {count} captions that say it, {len(worse)} miss by more than 5 grey levels more with `moments` than with `mean`, over {measured.EACH} pictures each: {told}. "
        f"A photo's light is a range of exposures: real pictures of one caption have a standard deviation of up to {spread:.0f}."
    )


def short_words(open_: dict[str, Any], found: dict[str, Any]) -> str:
    ceiling, noise = found["ceiling"], found["real"]["unsaid"]["w1"]
    ratio = open_["decoder, moments"]["unsaid"]["w1"] / open_["decoder, mean"]["unsaid"]["w1"]
    return (
        f"The aim was a fifth of the W1 that `mean` leaves for captions that say nothing of their ground; it is {ratio:.2f} without guidance, though "
        f"as many real pictures as were painted score {noise:.1f} themselves. What is missing is the shape of the distribution, not its "
        "moments: grounds are one of sixteen colours, black and white the commonest for logos, and a normal distribution says grey where no picture is, and beyond white. "
        f"Over {ceiling['pictures']:.0f} pictures whose captions leave the ground open, starts whose 4 x 4 lowest frequencies are those of real pictures end at a W1 of {ceiling['true']:.1f} "
        f"(`moments`: {ceiling['moments']:.1f}), so all that is lost is lost in drawing them: a module that told a mixture would have it."
    )


if __name__ == "__main__":
    main()
