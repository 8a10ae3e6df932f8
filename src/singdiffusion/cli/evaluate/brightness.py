"""``singdiffusion evaluate brightness``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .run import start


def brightness(
    models: options.Models = None,
    modules: options.Modules = None,
    method: options.Method = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts to paint (.txt, .json, .jsonl, .csv); the paper's four by default.")
    ] = None,
    pictures: options.PicturesAPrompt = 100,
    out: options.Out = Path("out/brightness"),
    cache: options.Cache = None,
    json: options.Json = None,
    model_config: options.ModelConfig = None,
    scheduler: options.Scheduler = None,
    steps: options.Steps = 50,
    guidance: options.Guidance = 7.5,
    negative: options.Negative = None,
    control: options.Control = None,
    seed: options.Seed = 0,
    batch: options.Batch = 16,
    height: options.Height = None,
    width: options.Width = None,
    dtype: options.Dtype = "float32",
    device: options.Device = "auto",
) -> None:
    """Mean grey of pictures, without and with: the paper's table, for any models and modules side by side.

    Example: singdiffusion evaluate brightness --model tiny --model tiny-v --pictures 16 --out out/brightness
    """
    run = start(
        models=models, modules=modules, method=method, out=out, cache=cache, json=json, model_config=model_config,
        scheduler=scheduler, steps=steps, guidance=guidance, negative=negative, control=control, seed=seed, batch=batch,
        height=height, width=width, dtype=dtype, device=device,
    )  # fmt: skip
    from ...evaluate.reports import brightness as brightness_table
    from ...evaluate.selection import real_greys, remedies_for, truncation_notes
    from ...painting.prompts import PAPER_PROMPTS, named, read_prompts

    wanted = named(PAPER_PROMPTS) if prompts is None else read_prompts(prompts)
    columns, notes, real, painted = [], [], {}, 0
    for model in run.models:
        painter = run.painter(model)
        remedies, absent = remedies_for(painter.pipe, run.modules, run.method, alone=len(run.models) == 1)
        notes += [f"{model}: {line}" for line in [*absent, *truncation_notes(painter.pipe, wanted)]]
        real |= {model: found} if (found := real_greys(model, wanted)) else {}
        with run.progress(f"Painting {model}", len(remedies) * len(wanted) * pictures) as advance:
            columns += brightness_table.measure(painter, remedies, wanted, pictures, run.seed, advance)
        painted += painter.painted
    settings = run.settings(prompts=None if prompts is None else prompts.name, pictures=pictures)
    document = brightness_table.document(columns, wanted, real, settings, notes)
    run.finish(document, painted, len(columns) * len(wanted) * pictures)
