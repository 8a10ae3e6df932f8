"""``singdiffusion evaluate pareto``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .crowds import Crowds, scales_of, scored
from .groups import expand
from .options import CountedCrowdOptions, ModelOptions, Out, PaintOptions
from .run import start


@expand
def pareto(
    *,
    chosen: ModelOptions,
    crowd: CountedCrowdOptions,
    guidance: Annotated[
        list[float] | None, typer.Option(help="Guidance scales; 1.5, 2, 3, 4, 5, 6, 7 and 8 by default.")
    ] = None,
    behind: Annotated[
        str | None, typer.Option(help="Draw the authors' curves behind: sd-1.5 or sd-2.0-base (read off their plot).")
    ] = None,
    out: Out = Path("out/pareto"),
    options: PaintOptions,
) -> None:
    """Draw text score against distance over the guidance scale.

    Without and with SingDiffusion, and where each curve is better.

    \b
    Example:
      singdiffusion evaluate pareto --pictures 64 --out out/pareto \\
        --guidance 1.5 --guidance 4 --guidance 8
    """
    from ...errors import SingDiffusionError
    from ...evaluate.reports.paper import GUIDANCE
    from ...evaluate.reports.pareto import check_behind, pareto_document

    scales = sorted(scales_of(guidance, GUIDANCE))
    check_behind(behind)
    if crowd.text == "none":
        raise SingDiffusionError("the curve needs a text score: --text tiny, or a CLIP model's folder or hub id")
    run = start(chosen.models, chosen.modules, chosen.method, scales[0], out, options)
    crowds = Crowds(run, crowd, crowd.pictures, crowd.save_real)
    found, notes, painted = scored(crowds, scales)
    settings = crowds.settings(guidance_scale=scales, behind=behind)
    run.finish(pareto_document(found, crowds.known, settings, notes, behind), painted, len(found) * crowds.number)
