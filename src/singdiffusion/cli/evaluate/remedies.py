"""``singdiffusion evaluate remedies``"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..options import Guidance
from .crowds import Crowds
from .groups import expand
from .options import MODEL, MODULE, CrowdOptions, Out, PaintOptions, PicturesPerPrompt, Prompts, pictures_of_captions
from .run import start


@expand
def remedies(
    *,
    model: Annotated[str, typer.Option(help=f"{MODEL}.")] = "tiny",
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            help=f"auto for the one that fits the model, {MODULE}. By default auto, and tiny-unet and tiny for the embedded models.",
        ),
    ] = None,
    prompts: Prompts = None,
    pictures: PicturesPerPrompt = 16,
    crowd: Annotated[int | None, pictures_of_captions("--crowd")] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            help="For the signal leak: a folder that singdiffusion encode wrote, of the base's training pictures."
        ),
    ] = None,
    color: Annotated[
        list[str] | None, typer.Option(help="Flat colours to start from, #rrggbb or names; grey by default.")
    ] = None,
    one_more_step: Annotated[str | None, typer.Option(help="A OneMoreStep module's folder or hub id.")] = None,
    pairs: Annotated[
        int, typer.Option(min=1, max=1000, help="Pictures without and with each remedy, in turn, for its time.")
    ] = 6,
    compared: CrowdOptions,
    guidance: Guidance = 7.5,
    out: Out = Path("out/remedies"),
    options: PaintOptions,
) -> None:
    """Compare every remedy that the model can have.

    Brightness, distance, text score, time, memory, and what must be trained.

    \b
    Example:
      singdiffusion evaluate remedies --pictures 4 --crowd 64 \\
        --out out/remedies
    """
    from ... import tiny

    embedded = model in tiny.MODELS
    run = start([model], modules or (["tiny-unet", "tiny"] if embedded else None), None, guidance, out, options)
    from ...evaluate.comparison import compare_remedies
    from ...evaluate.remedies.flat_color import MID_GREY
    from ...painting.prompts import PAPER_PROMPTS, named, read_prompts

    wanted = named(PAPER_PROMPTS) if prompts is None else read_prompts(prompts)
    crowds = Crowds(run, compared, crowd)
    painter = run.painter(model)
    document, expected = compare_remedies(
        painter,
        wanted,
        pictures,
        crowds.jobs,
        crowds.known,
        crowds.scorer,
        modules=run.modules_for(painter),
        statistics=statistics,
        colors=color or [MID_GREY],
        one_more_step=one_more_step,
        pairs=pairs,
        seed=options.seed,
        settings=crowds.settings(pictures_per_prompt=pictures, prompts={p.id: p.text for p in wanted}),
        painting=partial(run.painting, painter),
    )
    run.finish(document, painter.painted, expected)
