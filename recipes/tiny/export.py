"""Stage 9: all that ships in ``src/singdiffusion/tiny``: weights, model cards, real pictures and their brightness."""

import csv
import json
import shutil
from collections.abc import Callable
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
from singdiffusion.compat import diffusers_dtype, hub_names, hub_vocabulary, transformers_dtype
from singdiffusion.modules import SingConfig, SingModule, layout
from singdiffusion.modules.text import PromptEncoder, fingerprint

from . import base, captions, cards, corpus, encoder, samples, vae, variants
from .pictures import Picture, World, load_world, luma

PROMPTS = (
    "solid black background",
    "solid white background",
    "monochrome line-art logo on a black background",
    "monochrome line-art logo on a white background",
)
REFERENCES = 2000  # real pictures per prompt
HINTS = 8  # held-out icons whose edges ship
MODULES = {"module": "unet", "decoder": "decoder"}  # stage -> folder of the package
STAGES = ("vae", "base", "module", "decoder", "v", "community", "controlnet", "encoder")
MODULE_FIGURES = (
    "step", "seconds", "loss", "excess", "excess_error", "channel_mean", "over_noise",
    "likelihood", "dispersion", "coverage_50", "coverage_90",
)  # fmt: skip


# -- real pictures ----------------------------------------------------------------------------------------------------


def _brightness(draw: Callable[[np.random.Generator], Picture]) -> dict[str, float]:
    """Return mean and standard deviation over pictures of their mean luma (0..255)."""
    rng = np.random.default_rng(7)
    lumas = np.array([luma(draw(rng)).mean() for _ in range(REFERENCES)])
    return {"mean": round(float(lumas.mean()), 3), "std": round(float(lumas.std()), 3), "count": REFERENCES}


def reference(world: World, unseen: World) -> dict[str, dict[str, dict[str, float]]]:
    """Return brightness of real pictures by prompt, for text alone and for ControlNets along the shipped hints."""
    along = lambda color: lambda rng: unseen.draw_logo(rng, str(rng.choice(_hints(unseen))), color, 1, 0)  # noqa: E731
    drawn = {
        PROMPTS[0]: lambda rng: world.draw_solid(rng, "black"),
        PROMPTS[1]: lambda rng: world.draw_solid(rng, "white"),
        PROMPTS[2]: lambda rng: world.logo(rng, "black", named=False)[0],
        PROMPTS[3]: lambda rng: world.logo(rng, "white", named=False)[0],
    }
    guided = drawn | {PROMPTS[2]: along("black"), PROMPTS[3]: along("white")}
    return {
        "prompts": {prompt: _brightness(draw) for prompt, draw in drawn.items()},
        "hints": {prompt: _brightness(draw) for prompt, draw in guided.items()},
    }


KNOWN = {  # prompt -> kind, icon and background of its pictures
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


def shipped_pictures(world: World) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a sheet of real pictures and its contents, as ``tiny.pictures`` reads them."""
    rng = np.random.default_rng(12)
    draw = {
        "solid": lambda name, color: world.draw_solid(rng, color),
        "emoji": lambda name, color: world.draw_sticker(rng, name, color),
        "line": lambda name, color: world.draw_logo(rng, name, color),
    }
    known = [draw[kind](name, color) for kind, name, color in KNOWN.values() for _ in range(KNOWN_EACH)]
    icons = variants.Icons(world.emoji, world.line, world.views)
    drawn = [icons.sample(rng) for _ in range(DRAWN)]
    tiles = np.stack(known + [picture for picture, _ in drawn])
    side = tiles.shape[1]
    sheet = tiles.reshape(-1, COLUMNS, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(-1, COLUMNS * side, 3)
    contents = {
        "side": side,
        "columns": COLUMNS,
        "known": dict.fromkeys(KNOWN, KNOWN_EACH),
        "captions": [caption for _, caption in drawn],
    }
    return sheet, contents


def _hints(unseen: World) -> list[str]:
    return sorted(unseen.line)[:HINTS]


# -- files ------------------------------------------------------------------------------------------------------------


def _write(folder: Path, save: Callable[[Path], Any]) -> None:
    """Save into a folder beside the target, then put it in the target's place."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _write_json(file: Path, content: Any, indent: int = 2) -> None:
    file.write_text(json.dumps(content, indent=indent) + "\n")


def _save_pipeline(pipe: StableDiffusionPipeline, trained: Path, folder: Path) -> None:
    pipe.save_pretrained(folder)
    _complete_text(trained, folder)


def _complete_text(trained: Path, folder: Path) -> None:
    """Add what transformers 5 leaves out: files that other tools read, names as on the hub, and a setting.

    "dtype" makes the half-precision text encoder load in float32 unless another dtype is asked for, as diffusers' models do.
    """
    if (folder / "tokenizer").exists():
        _copy_vocabulary(trained, folder / "tokenizer")
    hub_names(folder / "text_encoder")
    file = folder / "text_encoder" / "config.json"
    _write_json(file, json.loads(file.read_text()) | {"dtype": "float32"})


def _copy_vocabulary(trained: Path, folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(trained / "tokenizer" / name, folder)
    hub_vocabulary(folder)


def _save_small(network: ModelMixin, folder: Path) -> None:
    """Save a network at half the size of float16; diffusers loads it as any other.

    Rounding to the three bits of float8 moves the output of the base's U-Net by 2 %, less than a tenth of its error.
    """
    network.save_pretrained(folder)
    _shrink(folder / "diffusion_pytorch_model.safetensors")


def _shrink(file: Path, stored: torch.dtype = torch.float8_e4m3fn) -> None:
    """Round matrices and kernels to float8 (e4m3), the rest to float16.

    Args:
        file: is replaced.
        stored: dtype in which the rounded matrices are written; float16 compresses in the wheel nearly as well, and every version of
            transformers reads it.
    """
    large = lambda w: w.ndim > 1 and w.numel() > 4096  # noqa: E731
    rounded = lambda w: w.to(torch.float8_e4m3fn).to(stored)  # noqa: E731
    weights = {k: rounded(w) if large(w) else w.half() for k, w in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def _copy_plots(folder: Path, stages: tuple[str, ...], docs: Path) -> None:
    docs.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        if (folder / f"{stage}.png").exists():
            shutil.copy(folder / f"{stage}.png", docs / f"tiny_{stage}_loss.png")


def histories(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Return stage -> its runs, those of adopted weights first: steps, seconds, and means of the last ten rows of the log."""
    adopted = folder / "training.json"
    runs = json.loads(adopted.read_text()) if adopted.exists() else {}
    for name in MODULES:
        trained = folder / f"{name}.json"
        if trained.exists():
            figures = json.loads(trained.read_text())
            runs[name] = [{key: figures[key] for key in MODULE_FIGURES if key in figures}]
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


# -- the stage --------------------------------------------------------------------------------------------------------


def adopt(folder: Path, source: Path) -> None:
    """Fill an empty working folder with the shipped weights, so that training starts from them."""
    if (folder / "unet").exists() or (folder / "vae").exists():
        raise SystemExit(f"error: {folder} has trained models already; name an empty --folder")
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("vae", "unet", "text_encoder", "tokenizer"):
        shutil.copytree(source / "base" / part, folder / part)
    for name, there in MODULES.items():
        shutil.copytree(source / there / "module", folder / name / "module")
    for part in ("v/unet", "community/unet", "community/text_encoder", "controlnet", "encoder"):
        if (source / part).exists():
            shutil.copytree(source / part, folder / part.replace("/", "_").removesuffix("_encoder"))
    shutil.copy(source / "training.json", folder)


def export(folder: Path, docs: Path) -> None:
    """Write the shipped models and their cards from a working folder in which every stage has run.

    The brightness in the cards is that of the last ``make demos``, which has to follow.
    """
    target = Path(tiny.__file__).parent
    world, unseen = load_world(folder), load_world(folder, unseen=True)
    pipe = base.pipeline(folder).to(torch.float16)
    _write(target / "base", lambda partial: _save_pipeline(pipe, folder, partial))
    for stage, name in MODULES.items():
        _export_module(layout.read_network(folder / stage / "module", torch.float16), pipe, folder, target / name)
    _export_variants(folder, target, unseen)
    sheet, contents = shipped_pictures(world)
    Image.fromarray(sheet).save(target / "pictures.png", optimize=True)
    _write_json(target / "pictures.json", contents, indent=1)
    captions.write(target, world, corpus.write(folder))
    _write_json(target / "reference.json", reference(world, unseen))
    _write_json(target / "training.json", histories(folder))
    export_encoder(folder, target, docs)
    samples.base_sheets(target, unseen, docs)
    samples.variants_sheet(docs)
    _copy_plots(folder, STAGES, docs)
    cards.write(target)


def _export_module(network: nn.Module, pipe: StableDiffusionPipeline, folder: Path, target: Path) -> None:
    """Write a module with the base's text encoder, which reads prompts for models that have another."""
    config = SingConfig(
        name=f"tiny-{target.name}",
        latent_channels=4,
        vae_scaling_factor=pipe.vae.config["scaling_factor"],
        text_width=pipe.text_encoder.config.hidden_size,
        text_fingerprint=fingerprint(pipe.text_encoder.float()),
        text_length=pipe.tokenizer.model_max_length,
        sample_size=16,
    )
    module = SingModule(network, config, PromptEncoder([pipe.tokenizer], [pipe.text_encoder.to(torch.float16)]))
    _write(target, lambda partial: (module.save_pretrained(partial), _complete_text(folder, partial)))


def _export_variants(folder: Path, target: Path, unseen: World) -> None:
    """Write the parts in which the variants differ from the base."""

    def v(partial: Path) -> None:
        _save_small(
            UNet2DConditionModel.from_pretrained(folder / "v_unet", **diffusers_dtype(torch.float16)), partial / "unet"
        )
        scheduler = base.scheduler()
        scheduler.register_to_config(prediction_type="v_prediction")
        scheduler.save_pretrained(partial / "scheduler")

    def community(partial: Path) -> None:
        _save_small(
            UNet2DConditionModel.from_pretrained(folder / "community_unet", **diffusers_dtype(torch.float16)),
            partial / "unet",
        )
        encoder: nn.Module = CLIPTextModel.from_pretrained(
            folder / "community_text", **transformers_dtype(torch.float16)
        )
        encoder.save_pretrained(partial / "text_encoder")
        _complete_text(folder, partial)

    def controlnet(partial: Path) -> None:
        _save_small(ControlNetModel.from_pretrained(folder / "controlnet", **diffusers_dtype(torch.float16)), partial)
        (partial / "hints").mkdir()
        for name in _hints(unseen):
            variants.hint(unseen, name).convert("1").save(partial / "hints" / f"{name}.png", optimize=True)

    for save in (v, community, controlnet):
        _write(target / save.__name__, save)


def export_encoder(folder: Path, target: Path, docs: Path) -> None:
    """Write only the joint encoder, its card and its runs in ``training.json``.

    Its figures are of the weights that ship, rounded to eight bits; they are within 0.5 points of those in 32 bits.
    """

    def save(partial: Path) -> None:
        encoder.load(folder / "encoder").save_pretrained(partial)
        _shrink(partial / "model.safetensors", torch.float16)
        processor = encoder.processor(folder)
        processor.save_pretrained(partial)
        # as on the hub: transformers 4 fails on what 5 writes into processor_config.json
        (partial / "processor_config.json").unlink()
        processor.image_processor.save_pretrained(partial)
        _copy_vocabulary(folder, partial)

    _write(target / "encoder", save)
    runs = json.loads((target / "training.json").read_text()) | {"encoder": histories(folder)["encoder"]}
    _write_json(target / "training.json", runs)
    unseen = load_world(folder, unseen=True)
    figures = encoder.figures(target / "encoder", load_world(folder), unseen, vae.load(folder))
    _write_json(target / "encoder" / "figures.json", figures)
    cards.write(target)
    _copy_plots(folder, ("encoder",), docs)
