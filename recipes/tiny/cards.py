"""The model cards of the shipped models, filled with the figures that are stored beside the weights."""

import json
from pathlib import Path
from typing import Any

from transformers import CLIPModel

from singdiffusion.files import write_whole

from .pictures import HELD_OUT
from .sources import PACKAGES
from .vocabulary import COLOURS, EMOJI, LINE, PLACES, SHARES

BASE = """\
---
license: apache-2.0
language: en
library_name: diffusers
pipeline_tag: text-to-image
tags:
- stable-diffusion
- singdiffusion
---
# tiny: a small Stable Diffusion with the large ones' flaw

A latent diffusion model of 64 x 64 pictures in diffusers' own layout, made so that the flaw of common noise schedules, and
its cure, can be seen and tested in seconds on a laptop. It is a laboratory animal, not an artist.

| | |
|---|---|
| Autoencoder | AutoencoderKL, f = 4, 4 channels, latents 16 x 16 |
| Text encoder | CLIPTextModel, 3 layers, width 128, own BPE tokenizer, 24 tokens |
| Denoiser | UNet2DConditionModel, epsilon-prediction, pooled text beside the timestep (`addition_embed_type="text"`) |
| Schedule | SD-1.5's (scaled_linear 0.00085..0.012, 1000 steps) with its SNR times (64/16)^2, as `trained_betas`; alpha_T = 0.264, so that alpha_T * 16 / sigma_T = 4.4, SD-1.5's own displacement |
| Weights | float16 safetensors |

## Intended use
To see, test and measure what a noise schedule does to the first step, and what remedies do about it: demos, teaching, tests of pipelines and
schedulers, research. `singdiffusion.tiny.load_pipeline()` loads it, or `StableDiffusionPipeline.from_pretrained` this folder. It is of no use
for making pictures, and not meant for judging how larger models see the world.

## Data
Composites drawn at random, without end: {emoji} emoji and {line} line icons on sixteen grounds, plain grounds, and views of {places}
high-dynamic-range panoramas at exposures from night to glare. A fifth of the captions leave the ground or the light unsaid.
{held:.0%} of the icons (by a hash of their names) are held out of training.

| package | version | licence |
|---|---|---|
{licences}

## Training
| stage | steps | batch | minutes, two CPU cores | loss at the end |
|---|---|---|---|---|
{stages}

`make tiny` trains it again with these budgets; seeds are fixed (a budget in minutes sees as many pictures as the machine allows;
`--steps` fixes the number). Losses are in `docs/pictures/tiny_*_loss.png`. What is not as the recipe stands: the shipped
autoencoder had its first 9 of 16 minutes without the two colour terms of its loss (hence the step in its plot), and the base was
trained in two sittings, 74 minutes beside other processes and 95 minutes alone: its learning rate fell from minute 37 to 74, rose
to its peak again and fell from minute 84 to the end.

## Evaluation
{brightness}

Fréchet distances, text scores and other remedies: `make results`, `docs/results.md` in the repository.

## Limits
It paints the grounds that were asked for, line icons and common emoji of its vocabulary, and rough photos of its eighteen
places. It knows about five hundred things in all: an object outside that list, two objects, relations, counts, people and
lettering come out as a neighbour of something it knows, or as mush (`docs/pictures/tiny_cannot.png`). Photos are soft.

## Bias
Its world is a choice of ours: icons of four sets, {places} panoramas of one collection, {colours} named colours, English captions in a few fixed
patterns, in the proportions {shares}. What is not among them does not exist for it. No caption names a person;
the only faces are those of emoji. Nothing that it paints, and no figure measured on it, says how models trained on pictures from the web show people.
"""

UNET = """\
---
license: apache-2.0
language: en
library_name: singdiffusion
tags:
- diffusers
- stable-diffusion
- singdiffusion
---
# tiny-unet: E[x_0 | prompt] at t = 1, by the paper's network

The network of SingDiffusion (Zhang et al., CVPR 2024, arXiv 2403.08381) for the latent space of the embedded base: a U-Net
without time input, trained by x-prediction from pure noise, the base's text encoder frozen and shared, its U-Net never loaded.
`SingDiffusion.from_pretrained("tiny-unet")` loads it. Data, licences, recipe and bias: the card in `../base`.

## Intended use
The first step of the embedded base and of its variants as the paper takes it, to compare others with. It fits their latent space and no other.

## Training and evaluation
It is made by the package's own commands (`python -m recipes.tiny module` runs them): 60,000 composites of the world that the base was
trained on, `singdiffusion encode`, and `singdiffusion train --config tiny-unet`. Figures are of 2,048 held-out pictures, the minutes those of
one CPU core.

| stage | steps | batch | minutes | figures at the end |
|---|---|---|---|---|
{stages}

The loss has a floor, Var(x_0 | prompt): a mean says nothing of which picture it will be. `excess` is how far it is above that floor
(± `excess_error`), over the held-out pictures whose caption occurs more than once; `channel_mean` the squared error of the latent channels'
means, on which brightness depends; `over_noise` how much the output hangs on x_1, of which it should know nothing.

Brightness of real pictures, against which `singdiffusion demo --module tiny-unet` measures (mean luma over pictures, 0..255, and its standard
deviation); what it does to pictures is in `docs/performance.md` in the repository:

| prompt | mean | std |
|---|---|---|
{reference}

## Limits
It tells the mean of a prompt's pictures and nothing of how they vary, and the first step taken with it does not restore their variety. It knows
the words of the base's captions only.
"""

DECODER = """\
---
license: apache-2.0
language: en
library_name: singdiffusion
tags:
- diffusers
- stable-diffusion
- singdiffusion
---
# tiny, tiny-decoder: mean and covariance of x_0 given the prompt

A `MeanDecoder` for the latent space of the embedded base: a perceptron that sees the prompt's embeddings and no noise, for E[x_0 | prompt] does
not depend on noise, and that also tells the covariance of the 4 x 4 lowest frequencies, between channels too. `SingDiffusion.from_pretrained("tiny")`
loads it. Data, licences, recipe and bias: the card in `../base`.

## Intended use
The first step of the embedded base and of its variants, by mean and covariance (`moments`); and the start of modules for new words, by
`singdiffusion train --config fine-tune --init-module tiny`. It fits that latent space and no other: there is no module for Stable Diffusion here.

## Training and evaluation
It is made as the U-Net in `../unet` is, on the same pictures (`python -m recipes.tiny decoder`, or `singdiffusion train --config tiny-decoder`). Figures are
of 2,048 held-out pictures, the minutes those of one CPU core.

| stage | steps | batch | minutes | figures at the end |
|---|---|---|---|---|
{stages}

`loss`, `excess` and `channel_mean` as in the card of the U-Net. `likelihood` is the negative log-likelihood of a coefficient; `dispersion` the
mean square of its distance from its mean over the variance that was told, 1 if that is right; `coverage_50` and `coverage_90` the shares within
the central intervals of the normal distribution.

What it does to the pictures of the base, *with*, as against without:

{brightness}

## Limits
It tells a normal distribution, and the data are not normal: a ground is any of sixteen colours, and most shapes stand in the middle. It knows the
words of the base's captions only; of others it tells what its text encoder makes of them (`docs/embedded.md`, the community model).
"""

VARIANT = """\
---
license: apache-2.0
language: en
library_name: diffusers
pipeline_tag: text-to-image
tags:
- stable-diffusion
- singdiffusion{tags}
---
# {title}

{what}

Weights: matrices and kernels in float8 (e4m3), the rest in float16; diffusers reads them as any others. Everything that is not in
this folder is the base's: `tiny.load_pipeline(model="{model}")`.

## Intended use
To show and test that one module serves every model of a latent space, {use}. Of no use for making pictures, as the base.

## Training
Data, licences, recipe and bias: the card in `../base`; `python -m recipes.tiny {stage}` trains it, with a fixed seed.

| stage | steps | batch | minutes, two CPU cores | loss at the end |
|---|---|---|---|---|
{stages}

## Evaluation
{brightness}

Pictures: `docs/embedded.md` in the repository; Fréchet distances and text scores: `docs/results.md`.

## Limits
{limits}
"""

VARIANTS = {
    "v": {
        "title": "tiny-v: the base, predicting v",
        "what": "The base's U-Net trained on to predict v = alpha noise - sigma x_0, as Stable Diffusion 2.0 and 2.1 do (with 768 "
        "pixels). The text encoder and the schedule are the base's.",
        "use": "v-prediction too",
        "limits": "It can do what the base can, and its pictures are a little softer. With v a network can read the ground off the prompt alone, "
        "whatever\nit is started from, and this one knows few prompts: it errs less than the base from the start.",
    },
    "community": {
        "title": "tiny-community: the base, tuned to another style",
        "what": "The base's U-Net and text encoder trained on, as community checkpoints are made: seven pictures in ten are icons of "
        'the set `noto`, with captions in a manner of their own, "noto style, red apple, dark blue bg"; the rest are the base\'s.',
        "use": "one with a text encoder of its own too",
        "limits": "It knows the same things as the base; emoji, asked for by the base's own captions, may come in either style. The module cannot read its manner of\n"
        "speech: the first step has to be told in the base's words.",
    },
    "controlnet": {
        "title": "tiny-controlnet: a ControlNet for edges",
        "what": "A copy of the base's encoder half that takes a picture of edges (64 x 64, white on black) and steers the base, which is "
        "frozen, along them. `hints/` holds edges of eight line icons that no model here was trained on.",
        "use": "with a ControlNet too",
        "tags": ["controlnet"],
        "limits": "Edges are those of icons on plain grounds: photos and drawings with other edges come out as icons.",
    },
}

ENCODER = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: zero-shot-image-classification
tags:
- clip
- singdiffusion
---
# tiny-encoder: how well a picture of the embedded world fits its caption

A small CLIP for that world and no other: it puts pictures (64 x 64) and captions into one space, where the cosine tells how well they fit.
`CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained` load this folder (`singdiffusion.tiny.encoder_folder()`), with nothing to
download and without torchvision.

| | |
|---|---|
| Pictures | ViT, patches of 8 x 8, {vision} |
| Captions | {text}, the base's tokenizer, 24 tokens; its weights are its own, and nothing is shared with the base's text encoder |
| Common space | {projection} dimensions; logits are cosines times {scale:.0f} |
| Weights | matrices in float8 (e4m3), the rest in float16, {parameters:.2f} million in all; loaded in float32 |

## Intended use
Scores and features for pictures of the embedded models, offline: `singdiffusion evaluate fidelity --features tiny --text tiny`.

## Data and training
Composites drawn afresh for every batch from the world that the base was trained on (data, licences and held-out icons: the card in `../base`),
never the same twice. Contrastive, with two changes to CLIP's loss: all captions of a batch that are true of a picture are its targets, for
captions repeat and some leave open what others say, and pairs that may or may not fit are left out; and every caption is also offered with
another ground or light. Pictures are shifted by up to four pixels, blurred and noisy; brightness and colour are kept, for the score shall see
them. Seeds are fixed; `python -m recipes.tiny encoder` trains it again, `python -m recipes.tiny export --encoder-only` measures. What is not as
the recipe stands: the shipped one was trained in two sittings of 30 and 16 minutes beside other processes, which took half of the machine's
time; its learning rate fell at the end of the first, rose to four fifths of its peak, and fell again.

| stage | steps | batch | minutes, one thread of a busy CPU | at the end, over the last 500 steps |
|---|---|---|---|---|
{stages}

`wrong`: how often a picture of the batch prefers a caption that is not true of it, among about 400.

## Evaluation
Of the weights as they ship, by `python -m recipes.tiny export --encoder-only`. Retrieval among fresh composites, every one with a caption of
its own that says the subject and the ground or light: *known* are of all kinds, *icons* every one on every of the sixteen grounds (known ones:
the first of each kind by name). *Held-out* icons were in no picture of its training; ten of their twenty-five names were, for things that are
emoji and line icons too.

| pictures | number | text to picture, top-1 | top-5 | picture to text, top-1 | top-5 | chance, top-1 | top-5 |
|---|---|---|---|---|---|---|---|
{retrieval}

One thing to choose where the rest is given: *ground* the right one of sixteen, *light* of five, *subject* of the twenty-five icons.

| choice | pictures | right | chance |
|---|---|---|---|
{choice}

## Limits
It knows the embedded world's words and pictures only. Of an object that it never saw it tells the ground, and hardly the object. Cosines are
comparable among pictures for one caption, and their means among models for one list of captions; they are not those of OpenAI's CLIP, and a
high one does not say that a picture is a good one. It learnt from clean composites with mild blur and noise, not from painted pictures.
"""


def _shares(name: str, row: dict[str, float]) -> str:
    """A line of a table: a number of pictures, and shares of it."""
    return " | ".join([f"| {name}", f"{row['count']:,}", *(f"{v:.1%}" for k, v in row.items() if k != "count")]) + " |"


def _encoder(folder: Path, runs: list[dict[str, float]]) -> str:
    """The card of the joint encoder: its shape is read off the weights, what it can tell off ``figures.json``."""
    from . import encoder

    model = CLIPModel.from_pretrained(folder)
    figures = json.loads((folder / "figures.json").read_text())
    shape = lambda of: f"{of.num_hidden_layers} layers of width {of.hidden_size}"  # noqa: E731
    return ENCODER.format(
        vision=shape(model.config.vision_config),
        text=shape(model.config.text_config),
        projection=model.config.projection_dim,
        scale=model.logit_scale.exp().item(),
        parameters=model.num_parameters() / 1e6,
        stages=_stage("encoder", runs, encoder.BATCH),
        **{table: "\n".join(_shares(name, row) for name, row in of.items()) for table, of in figures.items()},
    )


def _stage(name: str, runs: list[dict[str, float]], batch: int) -> str:
    lines = []
    for i, run in enumerate(runs):
        terms = ", ".join(f"{k} {v:.4g}" for k, v in run.items() if k not in ("step", "seconds"))
        label = name if len(runs) == 1 else f"{name}, run {i + 1}"
        lines.append(f"| {label} | {run['step']:,.0f} | {batch} | {run['seconds'] / 60:.0f} | {terms} |")
    return "\n".join(lines)


def _brightness(model: str, found: dict[str, Any]) -> str:
    """What the demo found, as a table."""
    told = found["settings"]
    cell = lambda spread: f"{spread['mean']:.1f} ± {spread['std']:.1f}"  # noqa: E731
    lines = [
        f"`singdiffusion demo --model {model}`: mean grey of {told['pictures']} pictures a prompt, 0 black to 255 white (± standard deviation over "
        f"pictures), guidance {told['guidance']}, {told['steps']} DDIM\nsteps, seeds from {told['seed']}; *with* is the module `{told['module']}`.",
        "",
        "| prompt | real pictures | without | with |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['prompt']} | {' | '.join(cell(row[key]) for key in ('real', 'off', 'on'))} |"
        for row in found["prompts"]
    ]
    return "\n".join(lines)


def cards(folder: Path) -> dict[str, str]:
    """Folder name -> text of its README.md.

    Args:
        folder: the shipped models, and what was measured: ``training.json`` and ``encoder/figures.json`` by ``export``, ``reference.json``
            too, ``demo.json`` by ``make demos``.
    """
    from singdiffusion.train import load_config

    from . import base, vae, variants

    runs, reference, demo = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("training", "reference", "demo")
    )
    batches = {"vae": vae.BATCH, "base": base.BATCH, "module": load_config("tiny-unet").batch}
    batches |= {"decoder": load_config("tiny-decoder").batch} | dict.fromkeys(VARIANTS, variants.BATCH)
    stages = {name: _stage(name, runs[name], batch) for name, batch in batches.items()}
    brightness = {model: _brightness(model, found) for model, found in demo.items()}
    made = {
        "base": BASE.format(
            emoji=len(EMOJI),
            line=len(LINE),
            places=len(PLACES),
            colours=len(COLOURS),
            shares=", ".join(f"{kind} {share:.0%}" for kind, share in SHARES.items()),
            held=HELD_OUT,
            licences="\n".join(f"| `{each.name}` | {each.version} | {each.licence} |" for each in PACKAGES.values()),
            stages="\n".join(stages[name] for name in ("vae", "base")),
            brightness=brightness["tiny"],
        ),
        "unet": UNET.format(
            stages=stages["module"],
            reference="\n".join(
                f"| {p} | {row['mean']:.1f} | {row['std']:.1f} |" for p, row in reference["prompts"].items()
            ),
        ),
        "decoder": DECODER.format(stages=stages["decoder"], brightness=brightness["tiny"]),
        "encoder": _encoder(folder / "encoder", runs["encoder"]),
    }
    for name, words in VARIANTS.items():
        tags = "".join(f"\n- {tag}" for tag in words.get("tags", ()))
        shown = {"stage": name, "stages": stages[name], "brightness": brightness[f"tiny-{name}"]}
        made[name] = VARIANT.format(model=f"tiny-{name}", **words | {"tags": tags} | shown)
    return made


def write(folder: Path) -> None:
    """Write the card of every model in ``folder``."""
    for name, text in cards(folder).items():
        write_whole(folder / name / "README.md", text)
