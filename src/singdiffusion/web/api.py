"""The HTTP API: ``/paint``, ``/audit`` and ``/about``, described by Gradio behind "Use via API", at the foot of the page."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

import gradio as gr

from .. import __version__
from ..errors import SingDiffusionError
from ..painting.sizes import own_size
from . import drawings
from .events import FAILED
from .settings import OWN, Settings, read
from .studio import Cancelled
from .waiting import Progress, WaitingRoom


def add(room: WaitingRoom) -> None:
    """Add the three functions to the page that is being built."""
    studio = room.studio
    fifty = min(50, studio.limits.num_inference_steps)

    async def paint(
        prompt: str,
        negative_prompt: str = "",
        seed: int = 0,
        num_inference_steps: int = fifty,
        guidance_scale: float = 7.5,
        scheduler: str = OWN,
        height: int = 0,
        width: int = 0,
        module: str = "",
        first_step: dict | None = None,
        control: str = "",
        count: int = 1,
    ) -> AsyncIterator[dict]:
        """Paint a prompt without and with SingDiffusion.

        Streams {"ahead", "part", "step", "steps"} while it works. The last answer is {"settings", "seconds", "pictures":
        [{"seed", "off": {"png": data URI, "mean_luma": 0..255, "withheld": false}, "on": the same or null}]}. What the model's safety
        checker withheld has true there, and null twice. Empty or 0: the model's own.
        ``first_step`` is an object with any of method, prompt, negative_prompt, guidance_scale and color.
        """
        values = {name: value for name, value in locals().items() if name in Settings.model_fields}
        try:
            async with aclosing(room.paint(read(values, studio.limits))) as news:
                async for each in news:
                    yield vars(each) if isinstance(each, Progress) else drawings.as_json(each)
        except Exception as error:
            raise _answer(error) from None

    def audit(scheduler: str = OWN, num_inference_steps: int = fifty, height: int = 0, width: int = 0) -> dict:
        """Return whether the model starts sampling from the wrong noise, as ``singdiffusion audit --json`` writes it."""
        values = {"scheduler": scheduler, "num_inference_steps": num_inference_steps, "height": height, "width": width}
        try:
            return studio.audit(read({"prompt": "any", **values}, studio.limits)).as_json()
        except Exception as error:
            raise _answer(error) from None

    def about() -> dict:
        """Return the model, its modules with their methods (the default last), schedulers, sizes and limits."""
        own_height, own_width = own_size(studio.pipe)
        return {
            "version": __version__,
            "model": studio.model,
            "modules": studio.modules,
            "module": studio.best.module,
            "schedulers": studio.schedulers,
            "controls": list(studio.controls),
            "height": own_height,
            "width": own_width,
            "limits": vars(studio.limits),
        }

    for function in (paint, audit, about):
        gr.api(function, api_name=function.__name__, concurrency_limit=None)


def _answer(error: Exception) -> gr.Error:
    """Return the error that a caller receives: our own message, or only that painting failed, with the cause in the log."""
    if isinstance(error, SingDiffusionError):
        return gr.Error(str(error), print_exception=False)
    if isinstance(error, Cancelled):
        return gr.Error("cancelled", print_exception=False)
    logging.getLogger(__name__).error("a request failed", exc_info=error)
    return gr.Error(FAILED, print_exception=False)
