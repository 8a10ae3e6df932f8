"""``singdiffusion demo`` as a report: the page, the terminal's table and the figures, without and with SingDiffusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...painting.prompts import Prompt
from ..brightness import PromptBrightness
from .brightness import section, spread
from .document import Document, Table, provenance

TITLES = ("without", "with SingDiffusion")
INTRO = (
    "The same model, the same prompts, the same seeds. Without SingDiffusion sampling starts from the wrong noise, and every picture is "
    "pulled to average grey. With it the first step starts where the prompt's pictures are; the model is untouched and does the rest."
)


def demo_document(
    both: tuple[PromptBrightness, PromptBrightness],
    prompts: Sequence[Prompt],
    real: Mapping[str, Mapping[str, float]],
    settings: dict[str, Any],
    seconds: float,
) -> Document:
    """Return the report.

    Args:
        both: without and with SingDiffusion.
        real: prompt -> "mean" and "std" of real pictures' mean lumas, as ``tiny.reference`` returns them.
        settings: of the pictures.
        seconds: of the whole run.

    Returns:
        A document whose figures are ``{"model", "settings", "seconds", "prompts": [{"prompt", "real", "off", "on": {"mean", "std"}}]}``,
        rounded; ``provenance`` is added to them.
    """
    off, on = both
    found = [
        {
            "prompt": prompt.text,
            "real": _rounded(real[prompt.text]["mean"], real[prompt.text]["std"]) if prompt.text in real else None,
            "off": _rounded(off.found[prompt.id].mean, off.found[prompt.id].std),
            "on": _rounded(on.found[prompt.id].mean, on.found[prompt.id].std),
        }
        for prompt in prompts
    ]
    figures = {"model": off.model, "settings": settings, "seconds": round(seconds, 1), "prompts": found}
    sections = [
        (f"“{prompt.text}”", section(prompt, both, TITLES, [real[prompt.text]["mean"]] if prompt.text in real else []))
        for prompt in prompts
    ]
    return Document(
        "Dark rooms and white pages: one step changed",
        INTRO,
        provenance("demo") | figures,
        [_table(off.model, found)],
        sections,
    )


def _rounded(mean: float, std: float) -> dict[str, float]:
    return {"mean": round(mean, 3), "std": round(std, 3)}


def _table(model: str, found: Sequence[dict[str, Any]]) -> Table:
    cells = [
        [row["prompt"], *("–" if row[key] is None else spread(**row[key]) for key in ("real", "off", "on"))]
        for row in found
    ]
    title = f"{model}: mean luma of the pictures (0 black, 255 white) ± standard deviation over pictures"
    return Table(["prompt", "real pictures", *TITLES], cells, title)
