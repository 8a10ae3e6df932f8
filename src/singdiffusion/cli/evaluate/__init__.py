"""``singdiffusion evaluate``: brightness, fidelity, pareto, remedies."""

from __future__ import annotations

import typer

from .. import app
from .brightness import brightness
from .fidelity import fidelity
from .pareto import pareto
from .remedies import remedies

evaluate = typer.Typer(
    help="Measure what the first step does to a model.\n\n"
    "Brightness, fidelity, the curve over the guidance scale, and other remedies side by side. Pictures are kept and not painted "
    "twice; `accelerate launch -m singdiffusion evaluate ...` shares the work.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for command in (brightness, fidelity, pareto, remedies):
    evaluate.command()(command)
app.add_typer(evaluate, name="evaluate")
