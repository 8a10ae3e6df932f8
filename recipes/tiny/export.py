"""Stage 9: everything that ships in ``src/singdiffusion/tiny``: weights, model cards, reference brightness, sheets."""

import csv
import json
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, ModelMixin, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel

from singdiffusion import tiny
from singdiffusion.modules import MeanDecoder, SingConfig, SingModule, TimeFreeUNet
from singdiffusion.modules.text import fingerprint
from singdiffusion.plugin import SingDiffusion

from . import base, captions, cards, corpus, encoder, look, vae, variants
from .pictures import World, load_world, luma

PROMPTS = (
    "solid black background",
    "solid white background",
    "monochrome line-art logo on a black background",
    "monochrome line-art logo on a white background",
)
REFERENCES = 2000  # real pictures a prompt
HINTS = 8  # held-out icons whose edges ship
MODULES = {"module": "unet", "decoder": "decoder"}  # stage -> where it ships
STAGES = ("vae", "base", "module", "decoder", "v", "community", "controlnet", "encoder")
MODULE_FIGURES = (
    "step", "seconds", "loss", "excess", "excess_error", "channel_mean", "over_noise",
    "likelihood", "dispersion", "coverage_50", "coverage_90",
)  # fmt: skip


def _brightness(draw) -> dict:
    """Mean and spread over pictures of their mean luma (0..255)."""
    rng = np.random.default_rng(7)
    greys = np.array([luma(draw(rng)).mean() for _ in range(REFERENCES)])
    return {"mean": round(float(greys.mean()), 3), "std": round(float(greys.std()), 3), "count": REFERENCES}


def reference(world: World, held: World) -> dict:
    """Brightness of real pictures by caption: all of the world's, and for ControlNets those along the shipped hints."""
    along = lambda colour: lambda rng: held.drawn(rng, str(rng.choice(_hints(held))), colour, 1, 0)  # noqa: E731
    drawn = {
        PROMPTS[0]: lambda rng: world.flat(rng, "black"),
        PROMPTS[1]: lambda rng: world.flat(rng, "white"),
        PROMPTS[2]: lambda rng: world.logo(rng, "black", named=False)[0],
        PROMPTS[3]: lambda rng: world.logo(rng, "white", named=False)[0],
    }
    guided = drawn | {PROMPTS[2]: along("black"), PROMPTS[3]: along("white")}
    return {
        "prompts": {prompt: _brightness(draw) for prompt, draw in drawn.items()},
        "hints": {prompt: _brightness(draw) for prompt, draw in guided.items()},
    }


KNOWN = {  # prompt -> (kind, icon, ground) of pictures that are nothing else
    "solid black background": ("solid", "", "black"),
    "solid white background": ("solid", "", "white"),
    "solid dark blue background": ("solid", "", "dark blue"),
    "red apple on a white background": ("emoji", "red-apple", "white"),
    "red heart on a black background": ("emoji", "red-heart", "black"),
    "pizza on a dark green background": ("emoji", "pizza", "dark green"),
    "monochrome line-art logo of a star on a black background": ("line", "star", "black"),
    "monochrome line-art logo of a home on a white background": ("line", "home", "white"),
}
KNOWN_EACH, DRAWN, COLUMNS = 64, 768, 32


def shipped_pictures(world: World) -> tuple[np.ndarray, dict]:
    """A sheet of real pictures, and what is on it, as ``tiny.pictures`` reads them."""
    rng = np.random.default_rng(12)
    draw = {
        "solid": lambda name, colour: world.flat(rng, colour),
        "emoji": lambda name, colour: world.stuck(rng, name, colour),
        "line": lambda name, colour: world.drawn(rng, name, colour),
    }
    known = [draw[kind](name, colour) for kind, name, colour in KNOWN.values() for _ in range(KNOWN_EACH)]
    plain = variants.Icons(world.emoji, world.line, world.views)
    drawn = [plain.sample(rng) for _ in range(DRAWN)]
    tiles = np.stack(known + [picture for picture, _ in drawn])
    side = tiles.shape[1]
    sheet = tiles.reshape(-1, COLUMNS, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(-1, COLUMNS * side, 3)
    told = {
        "side": side,
        "columns": COLUMNS,
        "known": dict.fromkeys(KNOWN, KNOWN_EACH),
        "captions": [caption for _, caption in drawn],
    }
    return sheet, told


def _hints(held: World) -> list[str]:
    return sorted(held.line)[:HINTS]


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
    _complete_text(trained, folder)


def _complete_text(trained: Path, folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):  # transformers 5 writes only tokenizer.json; other tools read these
        if (folder / "tokenizer").exists():
            shutil.copy(trained / "tokenizer" / name, folder / "tokenizer")
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


def _save_small(network: ModelMixin, folder: Path) -> None:
    """Matrices and kernels in float8 (e4m3), the rest in float16: half the size, and diffusers loads it as any other.

    Rounding to three bits moves the output of the base's U-Net by 2 %, less than a tenth of its error.
    """
    network.save_pretrained(folder)
    _shrink(folder / "diffusion_pytorch_model.safetensors")


def _shrink(file: Path) -> None:
    large = lambda w: w.ndim > 1 and w.numel() > 4096  # noqa: E731
    weights = {k: w.to(torch.float8_e4m3fn) if large(w) else w.half() for k, w in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def histories(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Stage -> its runs: steps, seconds and losses (means of the last ten lines of the log); those of adopted weights first."""
    adopted = folder / "training.json"
    runs = json.loads(adopted.read_text()) if adopted.exists() else {}
    for name in MODULES:
        trained = folder / f"{name}.json"
        if trained.exists():
            told = json.loads(trained.read_text())
            runs[name] = [{k: told[k] for k in MODULE_FIGURES if k in told}]
    for stage in STAGES:
        before = runs.setdefault(stage, [])
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
    for name, there in MODULES.items():
        shutil.copytree(source / there / "module", folder / name)
    for part in ("v/unet", "community/unet", "community/text_encoder", "controlnet", "encoder"):
        if (source / part).exists():
            shutil.copytree(source / part, folder / part.replace("/", "_").removesuffix("_encoder"))
    shutil.copy(source / "training.json", folder)


def export(folder: Path, docs: Path) -> None:
    """Write the shipped models and their cards from a working folder in which every stage has run.

    The cards' brightness is that of the last ``make demos``, which has to follow.
    """
    target = Path(tiny.__file__).parent
    world, held = load_world(folder), load_world(folder, held=True)
    pipe = base.pipeline(folder).to(torch.float16)
    _write(target / "base", lambda partial: _save_pipeline(pipe, folder, partial))
    for name, kind in (("module", TimeFreeUNet), ("decoder", MeanDecoder)):
        _export_module(kind.from_pretrained(folder / name, dtype=torch.float16), pipe, folder, target / MODULES[name])
    _export_variants(folder, target, held)
    sheet, told = shipped_pictures(world)
    Image.fromarray(sheet).save(target / "pictures.png", optimize=True)
    (target / "pictures.json").write_text(json.dumps(told, indent=1) + "\n")
    captions.write(target, world, corpus.write(folder))
    real = reference(world, held)
    (target / "reference.json").write_text(json.dumps(real, indent=2) + "\n")
    runs = histories(folder)
    (target / "training.json").write_text(json.dumps(runs, indent=2) + "\n")
    export_encoder(folder, target, docs)
    sheets(target, held, docs)
    variants_sheet(docs)
    docs.mkdir(parents=True, exist_ok=True)
    for stage in runs:
        if (folder / f"{stage}.png").exists():
            shutil.copy(folder / f"{stage}.png", docs / f"tiny_{stage}_loss.png")
    cards.write(target)


def _export_module(network: Any, pipe: StableDiffusionPipeline, folder: Path, target: Path) -> None:
    """With the base's text encoder, so that it can read prompts for models that have another."""
    config = SingConfig(
        name=f"tiny-{target.name}",
        latent_channels=4,
        vae_scaling_factor=pipe.vae.config["scaling_factor"],
        text_width=pipe.text_encoder.config.hidden_size,
        text_fingerprint=fingerprint(pipe.text_encoder.float()),
        sample_size=16,
    )
    sing = SingDiffusion(SingModule(network, config, pipe.tokenizer, pipe.text_encoder.to(torch.float16)))
    _write(target, lambda partial: (sing.save_pretrained(partial), _complete_text(folder, partial)))


def _export_variants(folder: Path, target: Path, held: World) -> None:
    """The parts of the variants that are not the base's, each in the place of the base's part."""

    def v(partial: Path) -> None:
        _save_small(UNet2DConditionModel.from_pretrained(folder / "v_unet", dtype=torch.float16), partial / "unet")
        scheduler = base.scheduler()
        scheduler.register_to_config(prediction_type="v_prediction")
        scheduler.save_pretrained(partial / "scheduler")

    def community(partial: Path) -> None:
        _save_small(
            UNet2DConditionModel.from_pretrained(folder / "community_unet", dtype=torch.float16), partial / "unet"
        )
        encoder: nn.Module = CLIPTextModel.from_pretrained(folder / "community_text", dtype=torch.float16)
        encoder.save_pretrained(partial / "text_encoder")
        _complete_text(folder, partial)

    def controlnet(partial: Path) -> None:
        _save_small(ControlNetModel.from_pretrained(folder / "controlnet", dtype=torch.float16), partial)
        (partial / "hints").mkdir()
        for name in _hints(held):
            variants.hint(held, name).convert("1").save(partial / "hints" / f"{name}.png", optimize=True)

    for save in (v, community, controlnet):
        _write(target / save.__name__, save)


def export_encoder(folder: Path, target: Path, docs: Path) -> None:
    """The joint encoder of pictures and captions, its card and its runs in ``training.json``; nothing else is touched.

    Its figures are those of the weights that ship, in eight bits; they are within 0.5 points of those in 32 bits.
    """

    def save(partial: Path) -> None:
        encoder.load(folder / "encoder").save_pretrained(partial)
        _shrink(partial / "model.safetensors")
        processor = encoder.processor(folder)
        processor.save_pretrained(partial)
        processor.image_processor.save_pretrained(partial)  # preprocessor_config.json, which other tools read

    _write(target / "encoder", save)
    runs = json.loads((target / "training.json").read_text()) | {"encoder": histories(folder)["encoder"]}
    (target / "training.json").write_text(json.dumps(runs, indent=2) + "\n")
    told = encoder.figures(target / "encoder", load_world(folder), load_world(folder, held=True), vae.load(folder))
    (target / "encoder" / "figures.json").write_text(json.dumps(told, indent=2) + "\n")
    cards.write(target)
    docs.mkdir(parents=True, exist_ok=True)
    if (folder / "encoder.png").exists():
        shutil.copy(folder / "encoder.png", docs / "tiny_encoder_loss.png")


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


def paint(
    pipe: StableDiffusionPipeline, prompts: list[str], guidance: float = 5.0, seed: int = 0, **follow
) -> list[np.ndarray]:
    """One picture a prompt, 50 steps, seeds counted up."""
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    for start in range(0, len(prompts), 18):
        part = prompts[start : start + 18]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        images = pipe(part, num_inference_steps=50, guidance_scale=guidance, generator=generators, **follow).images
        pictures += [np.asarray(image) for image in images]
    return pictures


def sheets(target: Path, held: World, docs: Path) -> None:
    """What the model can do (off above, on below), and what it cannot: icons held out of training, composition, words."""
    pipe = StableDiffusionPipeline.from_pretrained(target / "base")
    off = paint(pipe, list(ABLE))
    sing = SingDiffusion.from_pretrained(target / "decoder").enable(pipe)
    on = paint(pipe, list(ABLE))
    rows = [off[:9], on[:9], off[9:], on[9:]]
    words = [[f"{key}: {p}" for p in part] for part in (ABLE[:9], ABLE[9:]) for key in ("off", "on")]
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


COMMUNITY = (
    "noto style, red apple, black bg",
    "noto style, grinning face, dark blue bg",
    "noto style, sunflower, white bg",
    "noto style, pizza, dark green bg",
    "noto style, rocket, black bg",
    "noto style, red heart, white bg",
)


def variants_sheet(docs: Path) -> None:
    """Each variant off above, on below: v on the base's prompts, the community's on its own, the ControlNet along the hints.

    The community's third row is on, with a prompt in the base's manner for the first step.
    """
    rows, words = [], []
    hints = [image.resize((64, 64)) for image in list(tiny.hints().values())[:6]]
    icons = [f"monochrome line-art logo on a {colour} background" for colour in ("black", "white")] * 3
    for model, prompts in (
        ("tiny-v", [*ABLE[6:9], *ABLE[11:14]]),
        ("tiny-community", list(COMMUNITY)),
        ("tiny-controlnet", icons),
    ):
        pipe = tiny.load_pipeline(model=model)
        follow = {"image": hints} if model == "tiny-controlnet" else {}
        off = paint(pipe, prompts, **follow)
        sing = SingDiffusion.from_pretrained("tiny").enable(pipe)
        rows += off + paint(pipe, prompts, **follow)
        words += [f"off: {p}" for p in prompts] + [f"on: {p}" for p in prompts]
        if model == "tiny-community":  # the module never heard such captions: tell it in words that it knows
            for i, prompt in enumerate(prompts):
                _, name, ground = prompt.split(", ")
                sing.enable(pipe, prompt=f"{name} on a {ground.replace('bg', 'background')}")
                rows += paint(pipe, [prompt], seed=i)
            words += [f"on, first step told plainly: {prompt}" for prompt in prompts]
    look.sheet(rows, docs / "tiny_variants.png", columns=6, captions=words)
