"""Options that several commands take, with the same names and words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..painting.scheduler_names import SCHEDULERS

Model = Annotated[
    str,
    typer.Option(
        help="tiny, tiny-v, tiny-community or tiny-controlnet (embedded), a folder in diffusers' layout, a hub id, or a "
        "single .safetensors file."
    ),
]
ModelConfig = Annotated[
    Path | None, typer.Option(help="For a single file: a folder in diffusers' layout whose configurations fit it.")
]
Method = Annotated[
    str | None,
    typer.Option(
        help="mean, the paper's first step, or moments, the default where the module predicts the covariance."
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(SCHEDULERS)}, or diffusers' name of a class. The model's own by default."),
]
Steps = Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")]
Guidance = Annotated[float, typer.Option(help="Guidance scale; no guidance at 1 or less.")]
Negative = Annotated[str | None, typer.Option(help="Negative prompt.")]
Height = Annotated[int | None, typer.Option(max=16384, help="In pixels; the model's own by default.")]
Width = Annotated[int | None, typer.Option(max=16384, help="In pixels; the model's own by default.")]
Dtype = Annotated[
    str,
    typer.Option(
        help="float32, bfloat16 or float16; auto is float32 on a CPU, and on a GPU float16, or bfloat16 for models that "
        "overflow in float16."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, ...; auto is the fastest one here.")]
Figures = Annotated[Path | None, typer.Option(help="Write the figures as JSON into this file.")]
