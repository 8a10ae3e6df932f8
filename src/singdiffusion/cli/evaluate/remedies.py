"""``singdiffusion evaluate remedies``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .crowds import Crowds
from .run import start


def remedies(
    model: Annotated[
        str,
        typer.Option(
            help="tiny, tiny-v, tiny-community or tiny-controlnet, a folder, a hub id or a single .safetensors file."
        ),
    ] = "tiny",
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            help="tiny and tiny-unet by default for the embedded models, a module's folder or hub id; may be repeated.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Prompts for brightness (.txt, .json, .jsonl, .csv); the paper's four by default."),
    ] = None,
    pictures: options.PicturesAPrompt = 16,
    captions: options.Captions = None,
    crowd: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1_000_000,
            help="Pictures of captions in all; as many as captions by default, at most 30,000, and 256 of the embedded models.",
        ),
    ] = None,
    real: options.Real = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            help="For the signal leak: a folder that singdiffusion encode wrote, of the base's training pictures."
        ),
    ] = None,
    color: Annotated[
        list[str] | None, typer.Option(help="Flat colours to start from, #rrggbb or names; grey by default.")
    ] = None,
    one_more_step: Annotated[
        str | None, typer.Option(help="A converted OneMoreStep module's folder or hub id.")
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=1, max=1000, help="Pictures without and with, in turn, for the time of each remedy.")
    ] = 6,
    features: options.Features = None,
    inception: options.InceptionFile = None,
    clip: options.ClipFeatures = None,
    text: options.Text = None,
    out: options.Out = Path("out/remedies"),
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
    """Every remedy that the model can have, side by side: brightness, distance, text score, time, memory, what has to be trained.

    Example: singdiffusion evaluate remedies --pictures 4 --crowd 64 --out out/remedies
    """
    from ... import tiny

    embedded = model in tiny.MODELS
    run = start(
        models=[model], modules=modules or (["tiny-unet", "tiny"] if embedded else None), method=None, out=out, cache=cache,
        json=json, model_config=model_config, scheduler=scheduler, steps=steps, guidance=guidance, negative=negative,
        control=control, seed=seed, batch=batch, height=height, width=width, dtype=dtype, device=device,
    )  # fmt: skip
    from ...evaluate.comparison import compare_remedies
    from ...painting.prompts import PAPER_PROMPTS, named, read_prompts

    wanted = named(PAPER_PROMPTS) if prompts is None else read_prompts(prompts)
    crowds = Crowds(run, captions, real, None, crowd, features, inception, clip, text)
    painter = run.painter(model)
    with run.progress(f"Painting {model}", 0) as advance:
        document, expected = compare_remedies(
            painter,
            wanted,
            pictures,
            crowds.jobs,
            crowds.known,
            crowds.scorer,
            modules=run.modules,
            statistics=statistics,
            colours=color or ["#808080"],
            one_more_step=one_more_step,
            pairs=pairs,
            seed=seed,
            settings=crowds.settings(pictures_a_prompt=pictures, prompts={p.id: p.text for p in wanted}),
            advance=advance,
        )
    run.finish(document, painter.painted, expected)
