"""``singdiffusion evaluate brightness``"""

from __future__ import annotations

from pathlib import Path

from ..options import Guidance
from .groups import expand
from .options import ModelOptions, Out, PaintOptions, PicturesPerPrompt, Prompts
from .run import start


@expand
def brightness(
    *,
    chosen: ModelOptions,
    prompts: Prompts = None,
    pictures: PicturesPerPrompt = 100,
    guidance: Guidance = 7.5,
    out: Out = Path("out/brightness"),
    options: PaintOptions,
) -> None:
    """Measure the mean luma of pictures, without and with.

    The paper's table, for any models and modules side by side.

    \b
    Example:
      singdiffusion evaluate brightness --model tiny --model tiny-v \\
        --pictures 16 --out out/brightness
    """
    run = start(chosen.models, chosen.modules, chosen.method, guidance, out, options)
    from ...evaluate.brightness import measure
    from ...evaluate.reports.brightness import document
    from ...evaluate.selection import real_mean_lumas, remedies_for, truncation_notes
    from ...painting.prompts import PAPER_PROMPTS, named, read_prompts

    wanted = named(PAPER_PROMPTS) if prompts is None else read_prompts(prompts)
    measured, notes, real, painted = [], [], {}, 0
    for model in run.models:
        painter = run.painter(model)
        remedies, absent = remedies_for(painter.pipe, run.modules_for(painter), run.method, alone=len(run.models) == 1)
        notes += [f"{model}: {line}" for line in [*absent, *truncation_notes(painter.pipe, wanted)]]
        real |= {model: found} if (found := real_mean_lumas(model, wanted)) else {}
        with run.painting(painter, len(remedies) * len(wanted) * pictures) as advance:
            measured += measure(painter, remedies, wanted, pictures, options.seed, advance)
        painted += painter.painted
    settings = run.settings(prompts=None if prompts is None else prompts.name, pictures_per_prompt=pictures)
    run.finish(document(measured, wanted, real, settings, notes), painted, len(measured) * len(wanted) * pictures)
