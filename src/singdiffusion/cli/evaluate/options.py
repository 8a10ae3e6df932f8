"""The options of ``singdiffusion evaluate``, those that it shares with other commands among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Dtype, Guidance, Height, Method, Negative, Scheduler, Steps, Width  # noqa: F401

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="tiny (the default), tiny-v, tiny-community or tiny-controlnet, a folder, a hub id or a single .safetensors file.",
    ),
]
Modules = Annotated[
    list[str] | None,
    typer.Option("--module", help="tiny (the default), tiny-unet, a module's folder or hub id; may be repeated."),
]
ModelConfig = Annotated[
    Path | None, typer.Option(help="For a single file: a folder in diffusers' layout that fits it.")
]
Out = Annotated[Path, typer.Option(help="Folder for the report: index.html, figures.json, table.md.")]
Cache = Annotated[
    Path | None, typer.Option(help="Where the pictures are kept; OUT/pictures by default. May be shared.")
]
Json = Annotated[Path | None, typer.Option(help="Write the figures here too.")]
Control = Annotated[
    Path | None, typer.Option(help="For a ControlNet: a picture, or a folder of them, to follow; the seed says which.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="First seed; the next pictures take the next.")]
Batch = Annotated[int, typer.Option(min=1, max=4096, help="Pictures in one call of the pipeline.")]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, mps, ...")]
Captions = Annotated[
    Path | None,
    typer.Option(
        help="Captions (.json as COCO_3W_prompt.json, .jsonl, .csv, .txt); those of the embedded models' pictures by default."
    ),
]
Real = Annotated[
    Path | None,
    typer.Option(
        "--real", help="Real pictures: a folder, or an .npz file of statistics; the embedded models' own by default."
    ),
]
SaveReal = Annotated[
    Path | None, typer.Option(help="Keep the real pictures' statistics in this .npz file, for --real.")
]
PicturesAPrompt = Annotated[int, typer.Option(min=1, max=1_000_000, help="Pictures a prompt.")]
Count = Annotated[
    int | None,
    typer.Option(
        "--pictures",
        min=2,
        max=1_000_000,
        help="Pictures in all, a caption each; as many as captions by default, at most 30,000, and 256 of the embedded models.",
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(help="Distances on features of: tiny, efficientnet, inception (FID), clip; may be repeated. tiny and efficientnet by "
                 "default for the embedded models, inception for others."),
]  # fmt: skip
InceptionFile = Annotated[
    Path | None,
    typer.Option(
        "--inception", help="Inception's weights as torch-fidelity distributes them, where these cannot be downloaded."
    ),
]
ClipFeatures = Annotated[
    str | None, typer.Option("--clip", help="For --features clip: a CLIP model's folder or hub id.")
]
Text = Annotated[
    str | None,
    typer.Option("--text", help="Scores pictures with their captions: tiny, a CLIP model's folder or hub id, or none."),
]
