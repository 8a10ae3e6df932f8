"""``singdiffusion audit``"""

from __future__ import annotations

from typing import Annotated

import typer

from ..painting.scheduler_names import scheduler_class
from . import app
from .common import check_json, hush, show, write_json
from .options import Figures, Scheduler, Steps


@app.command()
def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="tiny or another embedded model, a folder, a hub id (only its configurations are downloaded), or a "
            "scheduler_config.json."
        ),
    ],
    scheduler: Scheduler = None,
    steps: Steps = 50,
    latents: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="Size of the latents, for a scheduler_config.json alone."),
    ] = None,
    json: Figures = None,
) -> None:
    """Check whether a model starts from the wrong noise.

    Reports how much is lost and what to do about it. Needs no weights, only configurations.

    \b
    Example:
      singdiffusion audit tiny --steps 10 --json audit.json
    """
    check_json(json)
    hush()
    from ..plugin.audit import audit as examine

    chosen = None if scheduler is None else scheduler_class(scheduler)
    found = examine(model, steps, scheduler=chosen, latents=latents)
    write_json(json, {"model": model} | found.as_json())
    show(found)
