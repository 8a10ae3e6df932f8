"""What the page's buttons and fields do: paint, cancel, and judge where sampling starts."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..errors import SingDiffusionError
from ..painting.metadata import ON
from . import drawings
from .settings import NO_MODULE, Settings, read
from .studio import Result
from .waiting import Progress, WaitingRoom

FAILED = "painting failed; the cause is in the server's log"
SAME_PROMPT, OWN_PROMPT, COLOR = "the prompt", "a prompt of its own", "a flat colour"
LABELS = {  # setting -> its name on the page
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "seed": "Seed",
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance scale",
    "scheduler": "Scheduler",
    "height": "Height",
    "width": "Width",
    "count": "Pictures",
    "control": "Picture that the ControlNet follows",
    "module": "First step",
    "first_step.method": "First step",
    "first_step.prompt": "Prompt of the first step",
    "first_step.color": "Colour of the first step",
}
# Where the verdict depends on a field.
_JUDGED = ("choice", "scheduler", "num_inference_steps", "width", "height", "follows", "color")
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass(frozen=True)
class Parts:
    """The page's components.

    Attributes:
        inputs: name -> field; ``choice`` is a ``Choice.key``, ``follows`` one of the three texts above.
        examples: buttons with prompts.
        paint, cancel: buttons.
        stage: shows progress and pictures.
        verdict: shows where sampling starts.
    """

    inputs: dict[str, Any]
    examples: list[gr.Button]
    paint: gr.Button
    cancel: gr.Button
    stage: gr.HTML
    verdict: gr.HTML


def wire(page: gr.Blocks, room: WaitingRoom, parts: Parts) -> None:
    """Connect the page's parts with what they do."""
    inputs, handlers = parts.inputs, _Handlers(room, list(parts.inputs))
    every = list(inputs.values())
    # preprocess=False: values arrive as the browser sends them, and ``read`` alone checks them
    work = dict(
        fn=handlers.on_paint, inputs=every, outputs=[parts.stage, parts.cancel], preprocess=False, concurrency_limit=None,
        **_PRIVATE,
    )  # fmt: skip
    running = [parts.paint.click(**work), inputs["prompt"].submit(**work)]
    for example in parts.examples:
        script = f"() => {json.dumps(example.value)}"
        running.append(example.click(None, js=script, outputs=inputs["prompt"], **_PRIVATE).then(**work))
    # in the browser, because the stream that would bring an answer of the server is the one that ends
    cancelled = '() => [{phase: "cancelled", text: "Cancelled."}, {__type__: "update", interactive: false}]'
    parts.cancel.click(None, js=cancelled, outputs=[parts.stage, parts.cancel], cancels=running, **_PRIVATE)
    inputs["follows"].change(
        lambda follows: (gr.update(visible=follows == OWN_PROMPT), gr.update(visible=follows == COLOR)),
        inputs["follows"],
        [inputs["first_prompt"], inputs["color"]],
        preprocess=False,
        **_PRIVATE,
    )
    gr.on(
        [page.load, *(inputs[name].change for name in _JUDGED)],
        handlers.on_change,
        every,
        parts.verdict,
        preprocess=False,
        trigger_mode="always_last",
        concurrency_limit=None,
        **_PRIVATE,
    )


class _Handlers:
    """Functions that take the values of all fields, in the order of ``names``.

    Gradio names its functions after these, and ``paint`` is one of ``api``.
    """

    def __init__(self, room: WaitingRoom, names: list[str]):
        self._room, self._studio, self._names = room, room.studio, names

    async def on_paint(self, *values: Any) -> AsyncIterator[tuple[dict[str, Any], Any]]:
        """Yield what the stage shows and whether Cancel can be clicked."""
        on, off = gr.update(interactive=True), gr.update(interactive=False)
        try:
            settings = self._read(values)
            async with aclosing(self._room.paint(settings)) as news:
                async for each in news:
                    yield (_progress(each), on) if isinstance(each, Progress) else (_done(each), off)
        except SingDiffusionError as error:
            yield {"phase": "failed", "text": sentence(error)}, off
        except Exception:
            logging.getLogger(__name__).exception("painting failed")
            yield {"phase": "failed", "text": sentence(FAILED)}, off

    def on_change(self, *values: Any) -> str:
        """Return the verdict as HTML."""
        try:
            request = request_of(dict(zip(self._names, values, strict=True))) | {"prompt": "any"}
            settings = self._studio.check(read(request, self._studio.limits))
            return drawings.verdict(self._studio.audit(settings), not settings.is_off, self._studio.note)
        except SingDiffusionError as error:
            return f"<p>{sentence(error)}</p>"

    def _read(self, values: tuple[Any, ...]) -> Settings:
        fields = dict(zip(self._names, values, strict=True))
        steered = fields["follows"] == OWN_PROMPT and fields["choice"] != NO_MODULE
        if steered and not str(fields["first_prompt"] or "").strip():
            raise SingDiffusionError("first_step.prompt is empty; write one", setting="first_step.prompt")
        return read(request_of(fields), self._studio.limits)


def request_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a request for ``settings.read`` from the page's fields; a field that is hidden or without effect is left out."""
    request = dict(fields)
    choice, follows = request.pop("choice"), request.pop("follows")
    prompt, color = request.pop("first_prompt"), request.pop("color")
    if follows == COLOR:
        return request | {"first_step": {"color": _hex(color)}}
    if not isinstance(choice, str) or choice == NO_MODULE:
        return request | {"module": choice}
    module, _, method = choice.rpartition("/")
    first_step = {"method": method} | ({"prompt": prompt} if follows == OWN_PROMPT else {})
    return request | {"module": module, "first_step": first_step}


def _progress(progress: Progress) -> dict[str, Any]:
    if not progress.part:
        ahead = progress.ahead
        text = f"Waiting; {ahead} request{'s' * (ahead != 1)} before yours." if ahead else "Beginning."
        return {"phase": "painting", "text": text}
    half = progress.steps if progress.part == ON else 0
    return {
        "phase": "painting",
        "text": f"Painting {'with' if progress.part == ON else 'without'} SingDiffusion.",
        "count": f"step {progress.step} of {progress.steps}",
        "done": half + progress.step,
        "total": 2 * progress.steps,
    }


def _done(result: Result) -> dict[str, Any]:
    withheld = sum(len(pair.withheld) for pair in result.pairs)
    count = len(result.pairs) * (1 if result.settings.is_off else 2)
    text = f"Done in {result.seconds:.1f} s."
    if withheld:
        text += f" The model’s safety checker withheld {withheld} of {count} picture{'s' * (count != 1)}."
    return {"phase": "done", "text": text, "id": secrets.token_hex(8), "pairs": drawings.shown(result)}


def sentence(error: SingDiffusionError | str) -> str:
    """Return an error for visitors: a sentence in which a setting has its name on the page."""
    text, setting = str(error), getattr(error, "setting", None)
    if setting in LABELS and text.startswith(setting):
        text = LABELS[setting] + text.removeprefix(setting)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _hex(color: Any) -> Any:
    """Return a colour as #rrggbb; Gradio's picker sends "rgba(16, 24, 32, 1)" once it was moved."""
    if isinstance(color, str) and color.startswith("rgba("):
        parts = color[5:-1].split(",")[:3]
        try:
            return "#" + "".join(f"{min(255, max(0, round(float(part)))):02x}" for part in parts)
        except ValueError:
            return color
    return color
