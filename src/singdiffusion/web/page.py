"""The page, and the HTTP API behind it, in Gradio's terms."""

from __future__ import annotations

import html
import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from importlib.resources import files
from typing import Any

import gradio as gr

from .. import __version__
from ..errors import SingDiffusionError
from ..painting.sizes import own_size
from . import drawings
from .settings import OFF, OWN, read
from .studio import Cancelled, Result, Studio
from .waiting import Progress, WaitingRoom

TITLE = "SingDiffusion, before and after"
FAILED = "painting failed; the server's log says why"
PROMPT, WORDS, COLOUR = "the prompt", "other words", "a flat colour"
EMPTY = """<div class="stage"><p class="empty">Type a prompt and paint it, or click an example. The same seed is painted without and with SingDiffusion.</p>
<div class="working"><div><p class="status" role="status"></p><small class="count" aria-hidden="true"></small></div><progress aria-label="Painting" hidden></progress></div>
<div class="shown"></div><section class="session" hidden aria-label="Painted in this session"><h2>This session</h2><ul></ul></section></div>"""


def asset(name: str) -> str:
    """A file of this folder."""
    return (files(__package__) / name).read_text(encoding="utf-8")


def theme() -> gr.themes.Base:
    """Gradio's own, in the fonts that the visitor's system has: nothing is fetched."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="stone",
        radius_size="lg",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(  # Gradio's own greys and teals are too pale to read (WCAG 2.1, 1.4.3)
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_title_text_color="*body_text_color",
        block_title_text_weight="600",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_shadow="none",
        input_placeholder_color="*neutral_500",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_border_color_selected="*primary_700",
        checkbox_border_color_selected_dark="*primary_600",
        checkbox_label_text_color_selected="*body_text_color",
        checkbox_label_text_color_selected_dark="*body_text_color",
    )


def build(room: WaitingRoom) -> gr.Blocks:
    """The page of the model of a waiting room, where every picture is painted."""
    studio = room.studio
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(
            f'<div class="intro"><h1>{TITLE}</h1><p>The same model, prompt and seed, twice: as it is, and with its first step put right. '
            f"Model: {html.escape(studio.model)}.</p></div>"
        )
        with gr.Row(equal_height=False, elem_id="parts"):  # in the order of a phone; style.css sets them side by side
            with gr.Column(elem_id="asking"):
                prompt = gr.Textbox(
                    label="Prompt", lines=2, max_lines=5, placeholder="Shift and Enter paint", autofocus=True
                )
                with gr.Row():
                    paint = gr.Button("Paint", variant="primary", scale=3, min_width=120)
                    cancel = gr.Button("Cancel", interactive=False, scale=1, min_width=90)
                with gr.Row(elem_id="examples"):
                    examples = [gr.Button(example, size="sm", min_width=40) for example in studio.examples]
            with gr.Column(elem_id="showing"):
                stage = gr.HTML(value={}, html_template=EMPTY, js_on_load=asset("stage.js"), elem_id="stage")
            with gr.Column(elem_id="choosing"):
                settings = _settings(studio)
                verdict = gr.HTML(elem_id="verdict")
        inputs = {"prompt": prompt, **settings}
        _wire(page, studio, room, inputs, examples, paint, cancel, stage, verdict)
        _api(studio, room)
    return page


def _settings(studio: Studio) -> dict[str, Any]:
    """Everything but the prompt, by its name in ``Settings``; ``told`` is the page's own."""
    limits, (height, width) = studio.limits, own_size(studio.pipe)
    methods = [(method.label, key) for key, method in studio.methods.items()]
    schedulers = [(f"the model's own ({_plain(studio)})" if name == OWN else name, name) for name in studio.schedulers]
    made: dict[str, Any] = {}
    made["method"] = gr.Radio(methods, value=studio.best, label="First step")
    with gr.Row():
        made["scheduler"] = gr.Dropdown(schedulers, value=OWN, label="Scheduler", min_width=200)
        made["steps"] = _whole("Steps", min(50, limits.steps), limits.steps, min_width=200)
    with gr.Row():
        made["guidance"] = gr.Slider(
            0, 30, value=7.5, step=0.1, label="Guidance scale", info="1 or less: none", min_width=200
        )
        with gr.Column(min_width=200):
            made["seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
            another = gr.Button("Another seed", size="sm")
    # in the browser: nothing to ask the server
    another.click(
        None, js="() => Math.floor(Math.random() * 4294967296)", outputs=made["seed"], api_visibility="private"
    )
    with gr.Accordion("More settings", open=False):
        made["negative_prompt"] = gr.Textbox(label="Negative prompt")
        made["told"] = gr.Radio(
            [PROMPT, WORDS, COLOUR],
            value=PROMPT,
            label="The first step is told",
            info="to steer colour and light alone",
        )
        made["first_prompt"] = gr.Textbox(label="Words for the first step", visible=False)
        made["color"] = gr.ColorPicker("#101820", label="Colour that the first step starts from", visible=False)
        with gr.Row():
            made["width"] = gr.Number(width, label="Width", precision=0, minimum=1, maximum=limits.side, min_width=90)
            made["height"] = gr.Number(
                height, label="Height", precision=0, minimum=1, maximum=limits.side, min_width=90
            )
            made["count"] = _whole("Pictures", 1, limits.count, min_width=120)
        controls = list(studio.controls)
        made["control"] = gr.Dropdown(
            controls,
            value=next(iter(controls), None),
            label="Picture that the ControlNet follows",
            visible=bool(controls),
        )
    return made


def _whole(label: str, value: int, most: int, min_width: int) -> Any:
    """A whole number from 1 to ``most``; Gradio's slider needs two to choose from."""
    if most == 1:
        return gr.Number(1, label=label, precision=0, interactive=False, min_width=min_width)
    return gr.Slider(1, most, value=value, step=1, label=label, min_width=min_width)


def _plain(studio: Studio) -> str:
    return type(studio.pipe.scheduler).__name__.removesuffix("Scheduler")


def _wire(
    page: gr.Blocks,
    studio: Studio,
    room: WaitingRoom,
    inputs: dict[str, Any],
    examples: list[gr.Button],
    paint: gr.Button,
    cancel: gr.Button,
    stage: gr.HTML,
    verdict: gr.HTML,
) -> None:
    names = list(inputs)

    def named(values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(names, values, strict=True))

    def wanted(given: dict[str, Any]) -> dict[str, Any]:
        told = given.pop("told")
        if told != WORDS or given["method"] == OFF:  # what is not shown, or has no first step to go to, is not meant
            given["first_prompt"] = ""
        given["color"] = _hex(given["color"]) if told == COLOUR else ""
        return given

    async def painted(*values: Any) -> AsyncIterator[tuple[dict[str, Any], Any]]:
        on, off = gr.update(interactive=True), gr.update(interactive=False)
        try:
            given = named(values)
            if given["told"] == WORDS and given["method"] != OFF and not str(given["first_prompt"] or "").strip():
                raise SingDiffusionError("words for the first step: there are none; write some, or choose the prompt")
            settings = read(wanted(given), studio.limits)
            async with aclosing(room.paint(settings)) as news:
                async for each in news:
                    if isinstance(each, Progress):
                        yield _progress(each), on
                    else:
                        yield _done(each), off
        except SingDiffusionError as error:
            yield {"phase": "failed", "text": _sentence(error)}, off
        except Exception:
            logging.getLogger(__name__).exception("painting failed")
            yield {"phase": "failed", "text": _sentence(FAILED)}, off

    def judged(*values: Any) -> str:
        try:
            settings = studio.check(read(wanted(named(values)) | {"prompt": "any"}, studio.limits))
            fixed = settings.method != OFF or bool(settings.color)
            return drawings.verdict(studio.audit(settings), fixed, studio.note)
        except SingDiffusionError as error:
            return f"<p>{_sentence(error)}</p>"

    every, private = list(inputs.values()), {"api_visibility": "private", "show_progress": "hidden"}
    # preprocess=False: values come as the browser sends them, and ``read`` alone judges them
    work = dict(fn=painted, inputs=every, outputs=[stage, cancel], preprocess=False, concurrency_limit=None, **private)
    running = [paint.click(**work), inputs["prompt"].submit(**work)]
    for example in examples:
        text = json.dumps(example.value)
        running.append(example.click(None, js=f"() => {text}", outputs=inputs["prompt"], **private).then(**work))
    said = '[{phase: "cancelled", text: "Cancelled."}, {__type__: "update", interactive: false}]'
    # in the browser: the stream that would bring an answer of the server is the one that ends
    cancel.click(None, js=f"() => {said}", outputs=[stage, cancel], cancels=running, **private)
    inputs["told"].change(
        lambda told: (gr.update(visible=told == WORDS), gr.update(visible=told == COLOUR)),
        inputs["told"],
        [inputs["first_prompt"], inputs["color"]],
        **private,
    )
    gr.on(
        [
            page.load,
            *(inputs[name].change for name in ("method", "scheduler", "steps", "width", "height", "told", "color")),
        ],
        judged,
        every,
        verdict,
        preprocess=False,
        trigger_mode="always_last",
        concurrency_limit=None,
        **private,
    )


def _progress(progress: Progress) -> dict[str, Any]:
    if not progress.part:
        ahead = progress.ahead
        text = f"Waiting; {ahead} request{'s' * (ahead != 1)} before yours." if ahead else "Beginning."
        return {"phase": "painting", "text": text}
    half = progress.steps if progress.part == "with" else 0
    text = f"Painting {progress.part} SingDiffusion."
    count = f"step {progress.step} of {progress.steps}"
    return {
        "phase": "painting",
        "text": text,
        "count": count,
        "done": half + progress.step,
        "total": 2 * progress.steps,
    }


def _done(result: Result) -> dict[str, Any]:
    text = f"Done in {result.seconds:.1f} s."
    return {"phase": "done", "text": text, "id": secrets.token_hex(8), "pairs": drawings.shown(result)}


def _sentence(error: object) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _hex(color: Any) -> Any:
    """Gradio's picker says "rgba(16, 24, 32, 1)" once it was moved."""
    if isinstance(color, str) and color.startswith("rgba("):
        parts = color[5:-1].split(",")[:3]
        try:
            return "#" + "".join(f"{min(255, max(0, round(float(part)))):02x}" for part in parts)
        except ValueError:
            return color
    return color


def _api(studio: Studio, room: WaitingRoom) -> None:
    """What programs call: ``/paint``, ``/audit`` and ``/about``, described by Gradio behind "Use via API", at the foot of the page."""

    async def paint(
        prompt: str,
        negative_prompt: str = "",
        seed: int = 0,
        steps: int = min(50, studio.limits.steps),
        guidance: float = 7.5,
        scheduler: str = OWN,
        method: str = "",
        first_prompt: str = "",
        color: str = "",
        width: int = 0,
        height: int = 0,
        count: int = 1,
        control: str = "",
    ) -> AsyncIterator[dict]:
        """Paint a prompt without and with SingDiffusion.

        Streams {"ahead", "part", "step", "steps"} while it works; what comes last is {"settings", "seconds", "pictures": [{"seed",
        "without": {"png": data URI, "mean_grey": 0..255}, "with": the same or null}]}. Empty or 0: the model's own.
        """
        values = {key: value for key, value in locals().items() if key in _PARAMETERS}
        try:
            async with aclosing(room.paint(read(values, studio.limits))) as news:
                async for each in news:
                    yield vars(each) if isinstance(each, Progress) else drawings.as_json(each)
        except Exception as error:
            raise _told(error) from None

    def audit(scheduler: str = OWN, steps: int = min(50, studio.limits.steps), width: int = 0, height: int = 0) -> dict:
        """Whether the model starts sampling from the wrong noise, as ``singdiffusion audit --json`` tells it."""
        values = {"prompt": "any", "scheduler": scheduler, "steps": steps, "width": width, "height": height}
        try:
            return studio.audit(read(values, studio.limits)).as_json()
        except Exception as error:
            raise _told(error) from None

    def about() -> dict:
        """The model, and what can be asked of it."""
        height, width = own_size(studio.pipe)
        return {
            "version": __version__,
            "model": studio.model,
            "methods": {key: method.label for key, method in studio.methods.items()},
            "method": studio.best,
            "schedulers": studio.schedulers,
            "controls": list(studio.controls),
            "width": width,
            "height": height,
            "limits": vars(studio.limits),
        }

    gr.api(paint, api_name="paint", concurrency_limit=None)
    gr.api(audit, api_name="audit", concurrency_limit=None)
    gr.api(about, api_name="about", concurrency_limit=None)


_PARAMETERS = (
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "guidance",
    "scheduler",
    "method",
    "first_prompt",
    "color",
    "width",
    "height",
    "count",
    "control",
)


def _told(error: Exception) -> gr.Error:
    """What a program's caller hears: our own words as they are; of anything else, that it happened."""
    if isinstance(error, SingDiffusionError):
        return gr.Error(str(error), print_exception=False)
    if isinstance(error, Cancelled):
        return gr.Error("cancelled", print_exception=False)
    logging.getLogger(__name__).exception("a request failed")
    return gr.Error(FAILED, print_exception=False)
