"""What the page draws beside the pictures: where sampling starts, and what a result looks like to the browser."""

from __future__ import annotations

import base64
import html
import shlex
from typing import Any

from ..evaluate.reports.histogram import Series, histogram
from ..evaluate.reports.pictures import side_by_side
from ..painting.luma import luma_shares
from ..painting.png import png
from ..painting.prompts import slug
from ..plugin import Audit
from .settings import OFF, OWN
from .studio import Pair, Result

_VERDICTS = {
    "absent": ("Not affected.", "It starts where its training ended. There is nothing to fix."),
    "mild": ("Hardly affected.", "Very dark and very bright pictures lose a little of their light."),
    "present": ("Affected.", "Dark and bright pictures are pulled to average grey."),
}


def verdict(found: Audit, fixed: bool, note: str | None = None) -> str:
    """HTML: the audit in plain words, and a diagram of where sampling starts.

    Args:
        found: of the model with the chosen scheduler, steps and size.
        fixed: whether a first step is chosen.
        note: a sentence more.
    """
    heading, meaning = _VERDICTS[found.verdict]
    share = f"{100 * found.alpha:.2g} %"
    model = (
        f"With {_words(found.scheduler)} and {found.steps} step{'s' * (found.steps != 1)} the model expects to begin with a state that "
        f"still holds {share} of the picture"
        if found.alpha > 2**-12
        else f"With {_words(found.scheduler)} and {found.steps} step{'s' * (found.steps != 1)} the model begins with pure noise"
    )
    given = "; it is given pure noise" if found.alpha > 2**-12 else ", as it was trained to"
    cure = " SingDiffusion’s first step puts the missing part there." if fixed and found.verdict != "absent" else ""
    warnings = "".join(f"<p>{html.escape(line[0].upper() + line[1:])}.</p>" for line in found.warnings)
    said = "" if note is None else f"<p>{html.escape(note)}</p>"
    return (
        f'<div class="verdict {found.verdict}"><p><strong>{heading}</strong> {model}{given}. {meaning}{cure}</p>'
        f"{_start(found.alpha, fixed)}{warnings}{said}</div>"
    )


def _words(scheduler: str) -> str:
    return scheduler.removesuffix("Scheduler").removesuffix("Discrete")


def _start(alpha: float, fixed: bool) -> str:
    """The way from picture to noise, and the two places on it. Drawn on the root of alpha, for a few per cent must be seen."""
    at = 100 * (1 - alpha**0.5)
    affected = alpha > 2**-12
    label = (
        f"A line from the picture to pure noise. The model expects to begin {100 * alpha:.2g} per cent before pure noise; "
        f"sampling begins at pure noise{', and SingDiffusion steps back to where the model expects it' if fixed else ''}."
        if affected
        else "A line from the picture to pure noise. Model and sampling both begin at pure noise."
    )
    gap = f'<i class="gap{" fixed" if fixed else ""}" style="left:{at:.1f}%"></i>' if affected else ""
    expected = f'<i class="mark expected" style="left:{at:.1f}%"></i>' if affected else ""
    key = (
        '<span class="expected">where the model expects to begin</span>'
        '<span class="given">where sampling begins</span>'
        f'<span class="{"fixed" if fixed else "gap"}">{"SingDiffusion’s first step" if fixed else "what is lost"}</span>'
        if affected
        else '<span class="given">where both begin</span>'
    )
    return (
        f'<div class="way" role="img" aria-label="{html.escape(label)}"><div class="track">{gap}{expected}<i class="mark given"></i></div>'
        f'<div class="ends"><span>picture</span><span>√ scale</span><span>pure noise</span></div></div><p class="way-key" aria-hidden="true">{key}</p>'
    )


def shown(result: Result) -> list[dict[str, Any]]:
    """Every pair of a result as the page's script takes it: files as base64, words, a histogram."""
    return [_pair(result, pair) for pair in result.pairs]


def _pair(result: Result, pair: Pair) -> dict[str, Any]:
    settings, (grey_without, grey_with) = result.settings, pair.greys
    images = [pair.without] + ([pair.with_] if pair.with_ is not None else [])
    kinds = (("without", "off"), ("with SingDiffusion", "on"))
    series = [Series(label, luma_shares([image]), kind) for (label, kind), image in zip(kinds, images, strict=False)]
    return {
        "prompt": settings.prompt,
        "seed": pair.seed,
        "name": f"{slug(settings.prompt, 60)}-{pair.seed}",
        "width": pair.without.width,
        "height": pair.without.height,
        "seconds": round(result.seconds, 1),
        "greys": [round(grey_without)] + ([] if grey_with is None else [round(grey_with)]),
        "without": _base64(result, pair, pair.without, "without"),
        "with": None if pair.with_ is None else _base64(result, pair, pair.with_, "with"),
        "both": None
        if pair.with_ is None
        else _base64(result, pair, side_by_side(pair.without, pair.with_), "without | with"),
        "histogram": histogram(settings.prompt, series),
        "command": command(result, pair.seed),
    }


def _base64(result: Result, pair: Pair, image: Any, which: str) -> str:
    return base64.b64encode(
        png(image, result.settings.prompt, pair.seed, result.made_with, singdiffusion=which)
    ).decode()


def as_json(result: Result) -> dict[str, Any]:
    """A result as the HTTP API gives it: PNG files as data URIs, mean greys (0..255), and the settings that made them."""

    def one(pair: Pair, image: Any, which: str, grey: float | None) -> dict[str, Any] | None:
        if image is None or grey is None:
            return None
        return {"png": "data:image/png;base64," + _base64(result, pair, image, which), "mean_grey": round(grey, 3)}

    pictures = [
        {
            "seed": pair.seed,
            "without": one(pair, pair.without, "without", pair.greys[0]),
            "with": one(pair, pair.with_, "with", pair.greys[1]),
        }
        for pair in result.pairs
    ]
    return {"settings": result.settings.model_dump(), "seconds": round(result.seconds, 3), "pictures": pictures}


def command(result: Result, seed: int) -> str:
    """The command that paints the same, with names of model, module and control as the server has them."""
    settings, names = result.settings, result.made_with
    words = ["singdiffusion", "generate", settings.prompt, "--out", "out", "--model", str(names["model"])]
    options: dict[str, Any] = {
        "--negative": settings.negative_prompt,
        "--seed": seed,
        "--steps": settings.steps,
        "--guidance": f"{settings.guidance:g}",
        "--scheduler": "" if settings.scheduler == OWN else settings.scheduler,
        "--width": settings.width,
        "--height": settings.height,
        "--first-prompt": settings.first_prompt,
        "--color": settings.color,
    }
    if not settings.color:
        options["--module"] = names["module"]
        options["--method"] = "" if settings.method == OFF else settings.method.rpartition("-")[2]
    options["--control"] = settings.control
    options |= {
        f"--{name}": names[name] for name, usual in (("dtype", "float32"), ("device", "cpu")) if names[name] != usual
    }
    for name, value in options.items():
        if value != "":
            words += [name, str(value)]
    if settings.method != OFF or settings.color:
        words.append("--compare")
    return shlex.join(words)
