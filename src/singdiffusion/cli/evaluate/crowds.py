"""What fidelity, pareto and remedies have in common: pictures of captions, compared with real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..common import finite
from .options import CrowdOptions
from .run import Run


class Crowds:
    """Captions to paint, and the real pictures and networks that measure the paintings, of several models.

    Args:
        run: the models.
        options: as given on the command line.
        count: pictures in all; None: as many as captions, with a limit.
        save_real: file for the statistics of the real pictures.
    """

    def __init__(self, run: Run, options: CrowdOptions, count: int | None, save_real: Path | None = None):
        from ...errors import SingDiffusionError
        from ...evaluate import selection
        from ...evaluate.gallery import jobs_of_captions

        self.run, self.options = run, options
        first = run.models[0]
        self.prompts = selection.captions_for(first, options.captions)
        self.number = count or selection.count_for(run.models, self.prompts)
        self.jobs = jobs_of_captions(self.prompts, self.number, run.options.seed)
        extractors = selection.extractors_for(run.models, options.features, options.inception, options.clip)
        if save_real is not None and len(extractors) > 1:
            raise SingDiffusionError("--save-real keeps the statistics of one network's features; name one: --features")
        self.scorer = selection.text_for(run.models, options.text, run.device)
        self.known = selection.real_for(first, options.real, extractors, self.number, run.processes, run.device)
        if save_real is not None and run.processes.first:
            self.known.statistics[0].save(save_real)
        run.processes.wait()

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return what a reader of the report needs."""
        captions, real = self.options.captions, self.options.real
        return self.run.settings(
            captions="of the embedded models' pictures" if captions is None else captions.name,
            real="the embedded models' own" if real is None else real.name,
            pictures=self.number,
            **more,
        )


def scored(crowds: Crowds, scales: list[float]) -> tuple[list[Any], list[str], int]:
    """Score ``off`` and every module that fits, on every model at every guidance scale.

    Returns:
        Scores, notes, and the number of pictures that were painted.
    """
    from ...evaluate.scores import score
    from ...evaluate.selection import remedies_for, truncation_notes

    run, found, notes, painted = crowds.run, [], [], 0
    for model in run.models:
        painter = run.painter(model)
        remedies, absent = remedies_for(painter.pipe, run.modules_for(painter), run.method, alone=len(run.models) == 1)
        notes += [f"{model}: {line}" for line in [*absent, *truncation_notes(painter.pipe, crowds.prompts)]]
        with run.painting(painter, len(remedies) * len(scales) * crowds.number) as advance:
            for scale in scales:
                for remedy in remedies:
                    found.append(score(painter, remedy, crowds.jobs, scale, crowds.known, crowds.scorer, advance))
        painted += painter.painted
    return found, notes, painted


def scales_of(given: list[float] | None, default: tuple[float, ...]) -> list[float]:
    """Return guidance scales, each once."""
    return list(dict.fromkeys(finite("--guidance", scale) for scale in given or default))
