"""All the checks with the settings of ``docs/theory.md``: figures and one JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import tiny
from ..core.schedule import Schedule
from ..files import write_whole
from . import brightness, checks, figures, module
from .oracle import Oracle

# three points on a line, not symmetric about their mean, so that nothing cancels by chance
LINE = Oracle(torch.tensor([[-1.0], [0.2], [1.0]]))
X_T = torch.tensor([0.3])
TIMES = (0.2, 0.5, 0.8, 0.95)
SIZES = tuple(np.geomspace(1e-3, 0.3, 14))
ALPHAS = tuple(np.geomspace(1e-3, 0.7, 14))
ICON_ALPHAS = tuple(np.geomspace(1e-4, 3e-2, 8))
GAPS = tuple(10.0**-k for k in range(1, 16))
NEARLY_ONE = 1e-6  # 1 - t at which the JSON has the errors of the routes
DRAWS = 4000
PICTURES = 256
STARTS = 384
DARK = re.compile("black|dark")  # captions of pictures on a dark background, which stand for one prompt
SIDES = (16, 32, 64, 128)
PARTS = 7


def run(out: Path, advance: Callable[[], None]) -> dict[str, Any]:
    """Compute everything, draw it into ``out`` as SVG and PNG, write ``theory.json``, and return its content.

    Args:
        out: folder, which exists.
        advance: called after each of ``PARTS`` parts.
    """
    started = time.monotonic()
    generator = torch.Generator().manual_seed(0)
    shown = tiny.pictures()
    luma = shown.luma
    icons = Oracle(luma[:PICTURES])

    first = [checks.proposition_1(LINE, X_T, t, SIZES, f"t = {t}") for t in TIMES]
    advance()
    second = [
        checks.proposition_2(LINE, ALPHAS, "three points, quadrature"),
        checks.proposition_2_monte_carlo(
            icons, ICON_ALPHAS, f"{PICTURES} icons of {icons.data.shape[1]:,} pixels, Monte Carlo", DRAWS, generator
        ),
    ]
    drawn = figures.propositions(first, second)
    advance()
    routes = checks.routes(icons, GAPS, 16, generator)
    drawn.append(figures.removable(routes))
    advance()
    landing = checks.landing(icons, [1.0, *np.geomspace(0.9, 1e-4, 60), 0.0], 32, generator)
    drawn.append(figures.landing(landing))
    advance()
    schedule = Schedule.named("sd15")
    t = checks.time_of_alpha(float(schedule.alpha(len(schedule) - 1)))
    dark = luma[[i for i, caption in enumerate(shown.captions) if DARK.search(caption)]]
    starts = brightness.starts(dark, t, STARTS, generator)
    every = brightness.starts(luma, t, STARTS, generator)
    drawn += figures.brightness(starts, every)
    advance()
    drawn.append(figures.displacement(checks.displacement(schedule, SIDES)))
    advance()
    fits = module.fits(shown.known, generator)
    drawn.append(figures.module(fits))
    advance()
    for drawing in drawn:
        drawing.save(out)

    found = {
        "proposition1": _curves(first),
        "proposition2": _curves(second[:1]),
        "removable": _removable(routes),
        "proposition3": _starts(starts),
        "proposition3_all": _starts(every),
        "module": [{k: getattr(f, k) for k in ("prompt", "over_noise", "off_mean", "off_grey")} for f in fits],
        "captions": {drawing.name: drawing.caption for drawing in drawn},
        "seconds": round(time.monotonic() - started, 1),
    }
    write_whole(out / "theory.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    return found


def _curves(curves: list[checks.Curve]) -> dict[str, float]:
    """Return slope and constant of the fits, as means over the curves, and the largest ratio to the bound."""
    exponents = np.array([curve.exponent for curve in curves])
    return {
        "slope": float(exponents[:, 0].mean()),
        "constant": float(exponents[:, 1].mean()),
        "worst_ratio_to_bound": max(curve.worst_ratio for curve in curves),
    }


def _removable(routes: checks.Routes) -> dict[str, float]:
    """Return the errors at 1 - t next to ``NEARLY_ONE``."""
    at = int(np.argmin(np.abs(np.log(routes.gap / NEARLY_ONE))))
    return {
        "gap": float(routes.gap[at]),
        "epsilon_error": float(routes.error["epsilon, float32"][at]),
        "x_prediction_error": float(routes.error["x-prediction, float32"][at]),
    }


def _starts(starts: dict[str, brightness.Start]) -> dict[str, float]:
    """Return KL divergences, means and standard deviations of the starts."""
    kinds = ("off", "mean", "moments")
    return (
        {f"kl_{kind}": starts[kind].kl for kind in kinds}
        | {f"kl_low_{kind}": starts[kind].kl_low for kind in kinds}
        | {f"brightness_mean_{kind}": starts[kind].mean for kind in ("real", *kinds)}
        | {f"brightness_std_{kind}": starts[kind].std for kind in ("real", *kinds)}
    )
