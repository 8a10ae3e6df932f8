"""``singdiffusion audit``"""

from __future__ import annotations

from typing import Annotated

import typer

from ..choices import scheduler_class
from . import app
from .common import check_json, hush, write_json
from .options import Figures, Steps


@app.command()
def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="tiny (or tiny-v, ...), a model's folder, a hub id (only configurations are fetched), or a scheduler_config.json."
        ),
    ],
    scheduler: Annotated[str | None, typer.Option(help="Another scheduler than the model's own.")] = None,
    steps: Steps = 50,
    latents: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="Size of the latents; needed where no denoiser's configuration tells it."),
    ] = None,
    json: Figures = None,
) -> None:
    """Tell whether a model starts from the wrong noise, how badly, and what to do. Needs no weights.

    Example: singdiffusion audit tiny --steps 10 --json audit.json
    """
    check_json(json)
    hush()
    from ..plugin.audit import audit as examine

    chosen = None if scheduler is None else scheduler_class(scheduler)
    found = examine(model, steps, scheduler=chosen, latents=latents)
    write_json(json, {"model": model} | found.as_json())
    typer.echo(str(found))
