"""Stage 5: everything that ships in ``src/singdiffusion/tiny``: fp16 weights, model cards, reference brightness, sheets."""

import csv
import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from singdiffusion.modules.unet import TimeFreeUNet
from singdiffusion.plugin import SingConfig, SingDiffusion, fingerprint

from . import base, cards, look, vae
from .pictures import World, load_world, luma
from .sources import PACKAGES

PROMPTS = (
    "solid black background",
    "solid white background",
    "monochrome line-art logo on a black background",
    "monochrome line-art logo on a white background",
)
REFERENCES = 2000  # real pictures a prompt


def pipeline(folder: Path) -> StableDiffusionPipeline:
    """The trained base of a working folder, in float32."""
    return StableDiffusionPipeline(
        vae=vae.load(folder),
        text_encoder=base.load_text(folder),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=base.load_unet(folder),
        scheduler=base.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


def reference(world: World) -> dict:
    """Mean and spread over real pictures of their mean luma (0..255), a caption at a time."""
    drawn = {
        PROMPTS[0]: lambda rng: world.flat(rng, "black"),
        PROMPTS[1]: lambda rng: world.flat(rng, "white"),
        PROMPTS[2]: lambda rng: world.logo(rng, "black", named=False)[0],
        PROMPTS[3]: lambda rng: world.logo(rng, "white", named=False)[0],
    }
    prompts = {}
    for prompt, draw in drawn.items():
        rng = np.random.default_rng(7)
        greys = np.array([luma(draw(rng)).mean() for _ in range(REFERENCES)])
        prompts[prompt] = {
            "mean": round(float(greys.mean()), 3),
            "std": round(float(greys.std()), 3),
            "count": REFERENCES,
        }
    return {"prompts": prompts}


def _write(folder: Path, save) -> None:
    """Save into a folder beside the target, then put it in the target's place."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _save_pipeline(pipe: StableDiffusionPipeline, trained: Path, folder: Path) -> None:
    """Half-precision files that load in float32 unless another dtype is asked for.

    diffusers' models do so anyway; transformers takes the dtype that stands in the configuration.
    """
    pipe.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):  # transformers 5 writes only tokenizer.json; other tools read these
        shutil.copy(trained / "tokenizer" / name, folder / "tokenizer")
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


def histories(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Stage -> its runs: steps, seconds and losses (means of the last ten lines of the log); those of adopted weights first."""
    adopted = folder / "training.json"
    runs = json.loads(adopted.read_text()) if adopted.exists() else {"vae": [], "base": [], "module": []}
    for stage, before in runs.items():
        log = folder / f"{stage}.csv"
        if log.exists():
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(log.open())]
            losses = {
                k: float(np.mean([r[k] for r in rows[-10:]])) for k in rows[-1] if k not in ("step", "seconds", "rate")
            }
            before.append({"step": rows[-1]["step"], "seconds": rows[-1]["seconds"]} | losses)
    return runs


def adopt(folder: Path, source: Path) -> None:
    """Fill an empty working folder with the shipped weights, so that training goes on from them."""
    if (folder / "unet").exists() or (folder / "vae").exists():
        raise SystemExit(f"error: {folder} has trained models already; name an empty --folder")
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("vae", "unet", "text_encoder", "tokenizer"):
        shutil.copytree(source / "base" / part, folder / part)
    shutil.copy(source / "training.json", folder)


def export(folder: Path, target: Path, docs: Path) -> None:
    """Write the shipped models and their cards from a working folder in which every stage has run."""
    world = load_world(folder)
    pipe = pipeline(folder).to(torch.float16)
    _write(target / "base", lambda partial: _save_pipeline(pipe, folder, partial))
    module = TimeFreeUNet.from_pretrained(folder / "module", torch_dtype=torch.float16)
    config = SingConfig(
        name="tiny",
        latent_channels=4,
        vae_scaling_factor=pipe.vae.config["scaling_factor"],
        text_width=pipe.text_encoder.config.hidden_size,
        text_fingerprint=fingerprint(pipe.text_encoder.float()),
        sample_size=16,
    )
    _write(target / "unet", SingDiffusion(module, config).save_pretrained)
    (target / "reference.json").write_text(json.dumps(reference(world), indent=2) + "\n")
    runs = histories(folder)
    (target / "training.json").write_text(json.dumps(runs, indent=2) + "\n")
    sheets(target, load_world(folder, held=True), docs)
    licences = {package.name: (package.version, package.licence) for package in PACKAGES.values()}
    docs.mkdir(parents=True, exist_ok=True)
    for stage in runs:
        if (folder / f"{stage}.png").exists():
            shutil.copy(folder / f"{stage}.png", docs / f"tiny_{stage}_loss.png")
    for name, card in cards.cards(runs, licences, reference(world)["prompts"]).items():
        (target / name / "README.md").write_text(card)


ABLE = (
    "monochrome line-art logo of a home on a black background",
    "monochrome line-art logo of a star on a white background",
    "monochrome line-art logo of a heart on a dark blue background",
    "monochrome line-art logo of a key on a yellow background",
    "monochrome line-art logo of a guitar on a white background",
    "monochrome line-art logo of a car on a black background",
    "red apple on a dark blue background",
    "grinning face on a black background",
    "sunflower on a white background",
    "red heart on a light grey background",
    "pizza on a dark green background",
    "rocket on a black background",
    "a very dark photo of a forest",
    "a photo of a forest",
    "an overexposed photo of a city",
    "a dark photo of a sunset",
    "a photo of the sky",
    "a bright photo of a canal in venice",
)


def paint(pipe: StableDiffusionPipeline, prompts: list[str], guidance: float = 5.0) -> list[np.ndarray]:
    """One picture a prompt, 50 steps, seed 0 counted up."""
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    for start in range(0, len(prompts), 18):
        part = prompts[start : start + 18]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        images = pipe(part, num_inference_steps=50, guidance_scale=guidance, generator=generators).images
        pictures += [np.asarray(image) for image in images]
    return pictures


def sheets(target: Path, held: World, docs: Path) -> None:
    """What the model can do (off above, on below), and what it cannot: icons held out of training, composition, words."""
    pipe = StableDiffusionPipeline.from_pretrained(target / "base")
    off = paint(pipe, list(ABLE))
    sing = SingDiffusion.from_pretrained(target / "unet").enable(pipe)
    on = paint(pipe, list(ABLE))
    rows = [off[:9], on[:9], off[9:], on[9:]]
    words = [ABLE[:9], ABLE[:9], ABLE[9:], ABLE[9:]]
    look.sheet(list(chain(*rows)), docs / "tiny_can.png", columns=9, captions=list(chain(*words)))
    unseen = [f"{name.replace('-', ' ')} on a white background" for name in list(held.emoji)[:6]]
    unseen += [f"monochrome line-art logo of a {name} on a white background" for name in list(held.line)[:6]]
    beyond = [
        "two red apples on a white background",
        "a red apple to the left of a blue car",
        "the word hello on a white background",
        "a portrait of a woman",
        "a photo of a dog in a forest",
        "a blue banana on a black background",
    ]
    look.sheet(paint(pipe, unseen + beyond), docs / "tiny_cannot.png", columns=9, captions=unseen + beyond)
    sing.disable()
