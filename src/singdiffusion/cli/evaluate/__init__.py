"""``singdiffusion evaluate``: brightness, fidelity, pareto, remedies."""

from __future__ import annotations

import typer

from .. import app
from .brightness import brightness
from .fidelity import fidelity
from .pareto import pareto
from .remedies import remedies

evaluate = typer.Typer(
    help="Measure what the first step does to a model: brightness, fidelity, the curve over guidance, and other remedies side by side. "
    "Pictures are kept and not painted twice; `accelerate launch -m singdiffusion evaluate ...` shares the work.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
evaluate.command(short_help="Measure the brightness of pictures, as in the paper's table.")(brightness)
evaluate.command(short_help="Compare pictures with real ones and with their captions.")(fidelity)
evaluate.command(short_help="Draw text score against distance over the guidance scale.")(pareto)
evaluate.command(short_help="Compare every remedy that a model can have, and its cost.")(remedies)
app.add_typer(evaluate, name="evaluate", short_help="Measure brightness, distance, text score and cost.")
