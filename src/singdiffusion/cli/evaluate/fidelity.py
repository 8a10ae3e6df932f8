"""``singdiffusion evaluate fidelity``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .crowds import Crowds, scales_of, scored
from .run import start


def fidelity(
    models: options.Models = None,
    modules: options.Modules = None,
    method: options.Method = None,
    captions: options.Captions = None,
    real: options.Real = None,
    save_real: options.SaveReal = None,
    pictures: options.Count = None,
    guidance: Annotated[
        list[float] | None, typer.Option(help="Guidance scales, one or several times; 1 (none) and 7.5 by default.")
    ] = None,
    features: options.Features = None,
    inception: options.InceptionFile = None,
    clip: options.ClipFeatures = None,
    text: options.Text = None,
    out: options.Out = Path("out/fidelity"),
    cache: options.Cache = None,
    json: options.Json = None,
    model_config: options.ModelConfig = None,
    scheduler: options.Scheduler = None,
    steps: options.Steps = 50,
    negative: options.Negative = None,
    control: options.Control = None,
    seed: options.Seed = 0,
    batch: options.Batch = 16,
    height: options.Height = None,
    width: options.Width = None,
    dtype: options.Dtype = "float32",
    device: options.Device = "auto",
) -> None:
    """How near pictures are to real ones, and how well they fit their captions, without and with: FID and CLIP score, where these are at hand.

    Example: singdiffusion evaluate fidelity --pictures 64 --guidance 1 --out out/fidelity
    """
    scales = scales_of(guidance, (1.0, 7.5))
    run = start(
        models=models, modules=modules, method=method, out=out, cache=cache, json=json, model_config=model_config,
        scheduler=scheduler, steps=steps, guidance=scales[0], negative=negative, control=control, seed=seed, batch=batch,
        height=height, width=width, dtype=dtype, device=device,
    )  # fmt: skip
    from ...evaluate.reports.scores import fidelity_document

    crowds = Crowds(run, captions, real, save_real, pictures, features, inception, clip, text)
    found, notes, painted = scored(crowds, scales)
    document = fidelity_document(found, crowds.known, crowds.settings(guidance=scales), notes)
    run.finish(document, painted, len(found) * crowds.number)
