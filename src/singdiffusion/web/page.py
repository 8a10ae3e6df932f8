"""The page: its parts and their places, in Gradio's terms. What they do is in ``events``, functions for programs are in ``api``."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from ..painting.sizes import own_size
from . import api, events
from .events import COLOR, LABELS, OWN_PROMPT, SAME_PROMPT
from .settings import OWN
from .studio import Studio
from .theme import asset
from .waiting import WaitingRoom

TITLE = "SingDiffusion, before and after"
EMPTY = """<div class="stage"><p class="empty">Type a prompt and paint it, or click an example. The same seed is painted without and with SingDiffusion.</p>
<div class="working"><div><p class="status" role="status"></p><small class="count" aria-hidden="true"></small></div><progress aria-label="Painting" hidden></progress></div>
<div class="shown"></div><section class="session" hidden aria-label="Painted in this session"><h2>This session</h2><ul></ul></section></div>"""


def build(room: WaitingRoom) -> gr.Blocks:
    """Return the page of a waiting room's model."""
    studio = room.studio
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(
            f'<div class="intro"><h1>{TITLE}</h1><p>The same model, prompt and seed, twice: as it is, and with a corrected first step. '
            f"Model: {html.escape(studio.model)}.</p></div>"
        )
        with gr.Row(equal_height=False, elem_id="parts"):  # in the order of a phone; style.css sets them side by side
            with gr.Column(elem_id="asking"):
                prompt = gr.Textbox(
                    label=LABELS["prompt"],
                    lines=2,
                    max_lines=5,
                    placeholder="Shift and Enter paint",
                    autofocus=True,
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
        parts = events.Parts({"prompt": prompt, **settings}, examples, paint, cancel, stage, verdict)
        events.wire(page, room, parts)
        api.add(room)
    return page


def _settings(studio: Studio) -> dict[str, Any]:
    """Return the fields that are always in view: name -> component. The names are those that ``events`` reads."""
    limits = studio.limits
    schedulers = [
        (f"the model's own ({_own_scheduler(studio)})" if name == OWN else name, name) for name in studio.schedulers
    ]
    made: dict[str, Any] = {
        "choice": gr.Radio(
            [(choice.label, choice.key) for choice in studio.choices], value=studio.best.key, label=LABELS["module"]
        )
    }
    with gr.Row():
        made["scheduler"] = gr.Dropdown(schedulers, value=OWN, label=LABELS["scheduler"], min_width=200)
        most = limits.num_inference_steps
        made["num_inference_steps"] = _whole(LABELS["num_inference_steps"], min(50, most), most, min_width=200)
    with gr.Row():
        made["guidance_scale"] = gr.Slider(
            0, 30, value=7.5, step=0.1, label=LABELS["guidance_scale"], info="off at 1 or less", min_width=200
        )
        with gr.Column(min_width=200):
            made["seed"] = gr.Number(0, label=LABELS["seed"], precision=0, minimum=0, maximum=2**32 - 1)
            another = gr.Button("Another seed", size="sm")
    another.click(  # in the browser, without a request to the server
        None, js="() => Math.floor(Math.random() * 4294967296)", outputs=made["seed"], api_visibility="private"
    )
    with gr.Accordion("More settings", open=False):
        made |= _more_settings(studio)
    return made


def _more_settings(studio: Studio) -> dict[str, Any]:
    """Return the fields that open on a click."""
    limits, (height, width) = studio.limits, own_size(studio.pipe)
    controls = list(studio.controls)
    made: dict[str, Any] = {
        "negative_prompt": gr.Textbox(label=LABELS["negative_prompt"]),
        "follows": gr.Radio(
            [SAME_PROMPT, OWN_PROMPT, COLOR],
            value=SAME_PROMPT,
            label="The first step follows",
            info="steers colour and light; the model still follows the prompt",
        ),
        "first_prompt": gr.Textbox(label=LABELS["first_step.prompt"], visible=False),
        "color": gr.ColorPicker("#101820", label=LABELS["first_step.color"], visible=False),
    }
    side = {"precision": 0, "minimum": 1, "maximum": limits.side, "min_width": 90}
    with gr.Row():
        made["width"] = gr.Number(width, label=LABELS["width"], **side)
        made["height"] = gr.Number(height, label=LABELS["height"], **side)
        made["count"] = _whole(LABELS["count"], 1, limits.count, min_width=120)
    made["control"] = gr.Dropdown(
        controls, value=next(iter(controls), None), label=LABELS["control"], visible=bool(controls)
    )
    return made


def _whole(label: str, value: int, most: int, min_width: int) -> Any:
    """Return a field for a whole number from 1 to ``most``; Gradio's slider needs at least two values."""
    if most == 1:
        return gr.Number(1, label=label, precision=0, interactive=False, min_width=min_width)
    return gr.Slider(1, most, value=value, step=1, label=label, min_width=min_width)


def _own_scheduler(studio: Studio) -> str:
    return type(studio.pipe.scheduler).__name__.removesuffix("Scheduler")
