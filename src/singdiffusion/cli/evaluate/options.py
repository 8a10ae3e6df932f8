"""The options of ``singdiffusion evaluate``: what its four commands have in common is declared here, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..options import Dtype, Height, Method, Negative, Scheduler, Steps, Width

MODEL = "tiny, tiny-v, tiny-community or tiny-controlnet, a folder, a hub id or a single .safetensors file"
MODULE = "a module's folder or hub id; may be repeated"

Out = Annotated[Path, typer.Option(help="Folder for the report: index.html, figures.json, table.md.")]
Prompts = Annotated[
    Path | None, typer.Option(help="Prompts to paint (.txt, .json, .jsonl, .csv); the paper's four by default.")
]
PicturesPerPrompt = Annotated[int, typer.Option("--pictures", min=1, max=1_000_000, help="Pictures per prompt.")]


def pictures_of_captions(flag: str) -> typer.models.OptionInfo:
    """Return the declaration of an option for the number of pictures of captions."""
    return typer.Option(
        flag,
        min=2,
        max=1_000_000,
        help="Pictures in all, one per caption; as many as captions by default, at most 30,000, and 256 for the embedded models.",
    )


@dataclass(frozen=True)
class ModelOptions:
    """Which models are measured, and with which modules."""

    models: Annotated[list[str] | None, typer.Option("--model", help=f"{MODEL}; tiny by default; may be repeated.")] = (
        None
    )
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--module", help=f"auto (the default) for the one that fits the model, tiny, tiny-unet, {MODULE}."
        ),
    ] = None
    method: Method = None


@dataclass(frozen=True)
class PaintOptions:
    """How every command paints, and where it keeps pictures and figures."""

    cache: Annotated[
        Path | None, typer.Option(help="Where the pictures are kept; OUT/pictures by default. May be shared.")
    ] = None
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file as well.")] = None
    model_config: Annotated[
        Path | None, typer.Option(help="For a single file: a folder in diffusers' layout that fits it.")
    ] = None
    scheduler: Scheduler = None
    steps: Steps = 50
    negative: Negative = None
    control: Annotated[
        Path | None,
        typer.Option(help="For a ControlNet: a picture or a folder of pictures to follow; the seed selects one."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="First seed; the following pictures count it up.")] = 0
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Pictures in one call of the pipeline.")] = 16
    height: Height = None
    width: Width = None
    dtype: Dtype = "auto"
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, mps, ...")] = "auto"


@dataclass(frozen=True)
class CrowdOptions:
    """What pictures of captions are compared with, and how."""

    captions: Annotated[
        Path | None,
        typer.Option(
            help="Captions (.json as COCO_3W_prompt.json, .jsonl, .csv, .txt); those of the embedded models' pictures by default."
        ),
    ] = None
    real: Annotated[
        Path | None,
        typer.Option(
            "--real",
            help="Real pictures: a folder, or an .npz file of statistics; the embedded models' own by default.",
        ),
    ] = None
    features: Annotated[
        list[str] | None,
        typer.Option(
            help="Distances on features of: tiny, efficientnet, inception (FID), clip; may be repeated. tiny and efficientnet by "
            "default for the embedded models, inception for others."
        ),
    ] = None
    inception: Annotated[
        Path | None,
        typer.Option(
            "--inception",
            help="Inception's weights as torch-fidelity distributes them, where these cannot be downloaded.",
        ),
    ] = None
    clip: Annotated[
        str | None, typer.Option("--clip", help="For --features clip: a CLIP model's folder or hub id.")
    ] = None
    text: Annotated[
        str | None,
        typer.Option(
            "--text", help="Scores pictures with their captions: tiny, a CLIP model's folder or hub id, or none."
        ),
    ] = None


@dataclass(frozen=True)
class CountedCrowdOptions(CrowdOptions):
    """The same, with the number of pictures, and a file for the real pictures' statistics."""

    pictures: Annotated[int | None, pictures_of_captions("--pictures")] = None
    save_real: Annotated[
        Path | None, typer.Option(help="Keep the real pictures' statistics in this .npz file, for --real.")
    ] = None
