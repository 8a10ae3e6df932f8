"""``singdiffusion evaluate fidelity``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .crowds import Crowds, scales_of, scored
from .groups import expand
from .options import CountedCrowdOptions, ModelOptions, Out, PaintOptions
from .run import start


@expand
def fidelity(
    *,
    chosen: ModelOptions,
    guidance: Annotated[
        list[float] | None, typer.Option(help="Guidance scales, one or several times; 1 (none) and 7.5 by default.")
    ] = None,
    crowd: CountedCrowdOptions,
    out: Out = Path("out/fidelity"),
    options: PaintOptions,
) -> None:
    """Compare pictures with real ones and with their captions.

    The distance to real pictures (FID, where its network is available) and a text score, without and with SingDiffusion.

    \b
    Example:
      singdiffusion evaluate fidelity --pictures 64 --guidance 1 \\
        --out out/fidelity
    """
    scales = scales_of(guidance, (1.0, 7.5))
    run = start(chosen.models, chosen.modules, chosen.method, scales[0], out, options)
    from ...evaluate.reports.fidelity import fidelity_document

    crowds = Crowds(run, crowd, crowd.pictures, crowd.save_real)
    found, notes, painted = scored(crowds, scales)
    document = fidelity_document(found, crowds.known, crowds.settings(guidance_scale=scales), notes)
    run.finish(document, painted, len(found) * crowds.number)
