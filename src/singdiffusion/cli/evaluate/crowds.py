"""What fidelity, pareto and remedies have in common: crowds of pictures, one a caption, beside real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common import finite
from .run import Run


@dataclass
class Crowds:
    """What crowds of pictures are compared with, of several models."""

    run: Run
    captions: Path | None
    real: Path | None
    save_real: Path | None
    count: int | None
    features: list[str] | None
    inception: Path | None
    clip: str | None
    text: str | None

    def __post_init__(self) -> None:
        from ...errors import SingDiffusionError
        from ...evaluate import selection
        from ...evaluate.gallery import jobs_of_captions

        run = self.run
        first = run.models[0]
        self.prompts = selection.captions_for(first, self.captions)
        self.number = self.count or selection.count_for(run.models, self.prompts)
        self.jobs = jobs_of_captions(self.prompts, self.number, run.seed)
        extractors = selection.extractors_for(run.models, self.features, self.inception, self.clip)
        if self.save_real is not None and len(extractors) > 1:
            raise SingDiffusionError(
                "--save-real keeps the statistics of one network's features; name one with --features"
            )
        device = run.torch_device
        self.scorer = selection.text_for(run.models, self.text, device)
        self.known = selection.real_for(first, self.real, extractors, self.number, run.processes, device)
        if self.save_real is not None and run.processes.first:
            self.known.statistics[0].save(self.save_real)
        run.processes.wait()

    def settings(self, **more: Any) -> dict[str, Any]:
        return self.run.settings(
            captions="of the embedded models' pictures" if self.captions is None else self.captions.name,
            real="the embedded models' own" if self.real is None else self.real.name,
            pictures=self.number,
            **more,
        )


def scored(crowds: Crowds, scales: list[float]) -> tuple[list[Any], list[str], int]:
    """Off and every module that fits, on every model at every scale; notes; and how many pictures were painted."""
    from ...evaluate.scores import score
    from ...evaluate.selection import remedies_for, truncation_notes

    run, found, notes, painted = crowds.run, [], [], 0
    for model in run.models:
        painter = run.painter(model)
        remedies, absent = remedies_for(painter.pipe, run.modules, run.method, alone=len(run.models) == 1)
        notes += [f"{model}: {line}" for line in [*absent, *truncation_notes(painter.pipe, crowds.prompts)]]
        with run.progress(f"Painting {model}", len(remedies) * len(scales) * crowds.number) as advance:
            for scale in scales:
                for remedy in remedies:
                    found.append(score(painter, remedy, crowds.jobs, scale, crowds.known, crowds.scorer, advance))
        painted += painter.painted
    return found, notes, painted


def scales_of(given: list[float] | None, otherwise: tuple[float, ...]) -> list[float]:
    return list(dict.fromkeys(finite("--guidance", scale) for scale in given or otherwise))
