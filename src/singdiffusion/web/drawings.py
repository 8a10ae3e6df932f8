"""What the page shows with the pictures: where sampling starts, a result as the browser takes it, and its command."""

from __future__ import annotations

import base64
import html
import shlex
from typing import Any

from PIL import Image

from ..evaluate.reports.histogram import Series, histogram
from ..painting.luma import luma_shares
from ..painting.metadata import COMPARE, PictureSettings
from ..painting.paint import side_by_side
from ..painting.png import png
from ..painting.prompts import slug
from ..painting.scheduler_names import SCHEDULERS
from ..plugin import Audit
from .settings import NO_MODULE, OWN
from .studio import Pair, Result

_VERDICTS = {
    "absent": ("Not affected.", "It starts where its training ended. There is nothing to fix."),
    "mild": ("Hardly affected.", "Very dark and very bright pictures lose a little of their light."),
    "present": ("Affected.", "Dark and bright pictures are pulled to average grey."),
}
_VISIBLE = 2**-12  # a smaller alpha is no picture at all


def verdict(found: Audit, fixed: bool, note: str | None = None) -> str:
    """Return HTML: the audit in plain words, and a diagram of where sampling starts.

    Args:
        found: audit of the model with the chosen scheduler, steps and size.
        fixed: whether a first step is chosen.
        note: another sentence.
    """
    heading, meaning = _VERDICTS[found.verdict]
    steps = f"{found.num_inference_steps} step{'s' * (found.num_inference_steps != 1)}"
    chosen = f"With {_short(found.scheduler)} and {steps} the model"
    if found.alpha > _VISIBLE:
        start = f"{chosen} expects a first state that still holds {100 * found.alpha:.2g} % of the picture. It is given pure noise."
    else:
        start = f"{chosen} begins with pure noise, as in its training."
    cure = " SingDiffusion’s first step adds the missing part." if fixed and found.verdict != "absent" else ""
    warnings = "".join(f"<p>{html.escape(line[0].upper() + line[1:])}.</p>" for line in found.warnings)
    last = "" if note is None else f"<p>{html.escape(note)}</p>"
    return (
        f'<div class="verdict {found.verdict}"><p><strong>{heading}</strong> {start} {meaning}{cure}</p>'
        f"{_start(found.alpha, fixed)}{warnings}{last}</div>"
    )


def _short(scheduler: str) -> str:
    return scheduler.removesuffix("Scheduler").removesuffix("Discrete")


def _start(alpha: float, fixed: bool) -> str:
    """Return a line from picture to noise with two places on it, on a square-root scale because a few per cent must be seen."""
    at = 100 * (1 - alpha**0.5)
    affected = alpha > _VISIBLE
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
    """Return every pair of a result as the page's script takes it: files as base64, texts, a histogram, what was withheld."""
    return [_pair(result, pair) for pair in result.pairs]


def _pair(result: Result, pair: Pair) -> dict[str, Any]:
    prompt, lumas = result.settings.prompt, pair.mean_luma[: 1 if result.settings.is_off else 2]
    files = {part: _base64(*file) for part, file in _files(result, pair).items()}
    images = [("without", "off", pair.off), ("with SingDiffusion", "on", pair.on)]
    series = [Series(label, luma_shares([image]), kind) for label, kind, image in images if image is not None]
    return files | {
        "prompt": prompt,
        "seed": pair.seed,
        "name": f"{slug(prompt, 60)}-{pair.seed}",
        "width": result.settings.width,
        "height": result.settings.height,
        "seconds": round(result.seconds, 1),
        "mean_luma": [None if luma is None else round(luma) for luma in lumas],
        "withheld": list(pair.withheld),
        "histogram": histogram(prompt, series) if series else "",
        "command": command(result, pair.seed),
    }


def _files(result: Result, pair: Pair) -> dict[str, tuple[Image.Image, PictureSettings]]:
    """Return "off", "on" and "compare", as far as there are pictures, -> picture and its settings."""
    settings = result.record.of(seed=pair.seed)
    files = {}
    if pair.off is not None:
        files["off"] = (pair.off, settings.without())
    if pair.on is not None:
        files["on"] = (pair.on, settings)
    if pair.off is not None and pair.on is not None:
        files[COMPARE] = (side_by_side(pair.off, pair.on), settings.of(singdiffusion=COMPARE))
    return files


def _base64(image: Image.Image, settings: PictureSettings) -> str:
    return base64.b64encode(png(image, settings)).decode()


def as_json(result: Result) -> dict[str, Any]:
    """Return a result as the HTTP API gives it.

    Returns:
        ``settings``, that all pictures share; ``seconds``; ``pictures``, one row per seed with ``off`` and ``on`` (or null), each
        with ``png``, a data URI, ``mean_luma``, 0..255, and ``withheld``. If the model's safety checker withheld a picture, ``withheld``
        is true and the other two are null.
    """
    settings = result.record.as_json() | {"count": result.settings.count}
    del settings["singdiffusion"]
    return {
        "settings": settings,
        "seconds": round(result.seconds, 3),
        "pictures": [_as_json(result, pair) for pair in result.pairs],
    }


def _as_json(result: Result, pair: Pair) -> dict[str, Any]:
    found: dict[str, Any] = {"seed": pair.seed, "off": None, "on": None}
    files = _files(result, pair)
    for part, luma in zip(("off", "on"), pair.mean_luma, strict=True):
        if part in pair.withheld:
            found[part] = {"png": None, "mean_luma": None, "withheld": True}
        elif luma is not None:
            uri = "data:image/png;base64," + _base64(*files[part])
            found[part] = {"png": uri, "mean_luma": round(luma, 3), "withheld": False}
    return found


def command(result: Result, seed: int) -> str:
    """Return the command that paints the same, with the server's names of model, module and control."""
    settings, record, first = result.settings, result.record, result.settings.first_step
    shorts = {class_name: short for short, class_name in SCHEDULERS.items()}
    options: dict[str, Any] = {
        "--negative": settings.negative_prompt,
        "--seed": seed,
        "--steps": settings.num_inference_steps,
        "--guidance": f"{settings.guidance_scale:g}",
        "--scheduler": "" if settings.scheduler == OWN else shorts.get(settings.scheduler, settings.scheduler),
        "--width": settings.width,
        "--height": settings.height,
        "--module": "" if first.color else record.module or NO_MODULE,
        "--method": first.method,
        "--first-prompt": first.prompt,
        "--first-negative": first.negative_prompt,
        "--first-guidance": "" if first.guidance_scale is None else f"{first.guidance_scale:g}",
        "--color": first.color,
        "--control": settings.control,
        "--dtype": result.explicit.get("torch_dtype", ""),
        "--device": result.explicit.get("device", ""),
    }
    option_like = settings.prompt.startswith("-")
    prompt = [settings.prompt]
    words = [
        "singdiffusion",
        "generate",
        *([] if option_like else prompt),
        "--out",
        "out",
        "--model",
        str(record.model),
    ]
    for name, value in options.items():
        if value != "":
            words += [name, str(value)]
    if not settings.is_off:
        words.append("--compare")
    return shlex.join([*words, "--", *prompt] if option_like else words)
