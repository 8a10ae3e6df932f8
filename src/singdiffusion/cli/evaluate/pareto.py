"""``singdiffusion evaluate pareto``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .crowds import Crowds, scales_of, scored
from .run import start


def pareto(
    models: options.Models = None,
    modules: options.Modules = None,
    method: options.Method = None,
    captions: options.Captions = None,
    real: options.Real = None,
    save_real: options.SaveReal = None,
    pictures: options.Count = None,
    guidance: Annotated[
        list[float] | None, typer.Option(help="Guidance scales; 1.5, 2, 3, 4, 5, 6, 7 and 8 by default.")
    ] = None,
    behind: Annotated[
        str | None, typer.Option(help="Draw the authors' curves behind: sd-1.5 or sd-2.0-base (read off their plot).")
    ] = None,
    features: options.Features = None,
    inception: options.InceptionFile = None,
    clip: options.ClipFeatures = None,
    text: options.Text = None,
    out: options.Out = Path("out/pareto"),
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
    """The curve of text score against distance over the guidance scale, without and with, and where one is better than the other.

    Example: singdiffusion evaluate pareto --pictures 64 --guidance 1.5 --guidance 4 --guidance 8 --out out/pareto
    """
    from ...errors import SingDiffusionError
    from ...evaluate.reports import paper as published

    scales = sorted(scales_of(guidance, published.GUIDANCE))
    if behind is not None and behind not in published.PARETO:
        raise SingDiffusionError(f"no published curve of {behind!r}; known: {', '.join(published.PARETO)}")
    if text == "none":
        raise SingDiffusionError("the curve needs a text score: --text tiny, or a CLIP model's folder or hub id")
    run = start(
        models=models, modules=modules, method=method, out=out, cache=cache, json=json, model_config=model_config,
        scheduler=scheduler, steps=steps, guidance=scales[0], negative=negative, control=control, seed=seed, batch=batch,
        height=height, width=width, dtype=dtype, device=device,
    )  # fmt: skip
    from ...evaluate.reports.scores import pareto_document

    crowds = Crowds(run, captions, real, save_real, pictures, features, inception, clip, text)
    found, notes, painted = scored(crowds, scales)
    document = pareto_document(found, crowds.known, crowds.settings(guidance=scales, behind=behind), notes, behind)
    run.finish(document, painted, len(found) * crowds.number)
