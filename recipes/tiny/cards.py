"""Model cards of the shipped models: ``templates/``, filled with the figures that are stored beside the weights."""

import json
from pathlib import Path
from typing import Any

from transformers import CLIPModel

from singdiffusion.files import write_whole

from .pictures import HELD_OUT
from .sources import PACKAGES
from .vocabulary import COLORS, EMOJI, LINE, PLACES, SHARES

TEMPLATES = Path(__file__).parent / "templates"

VARIANTS: dict[str, dict[str, Any]] = {
    "v": {
        "title": "tiny-v: the base, fine-tuned to predict v",
        "what": "The base's U-Net, fine-tuned to predict v = alpha noise - sigma x_0, as Stable Diffusion 2.0 and 2.1 do (at 768\n"
        "pixels). The text encoder and the schedule are the base's.",
        "use": "also one with v-prediction",
        "limits": "Those of the base, and its pictures are a little softer. With v-prediction a network can predict the background\n"
        "from the prompt alone, whatever the noise, and this one has few prompts to learn. So its error is smaller than the\n"
        "base's from the start.",
    },
    "community": {
        "title": "tiny-community: the base, fine-tuned to another style",
        "what": "The base's U-Net and text encoder, fine-tuned as community checkpoints are. Seven pictures in ten are icons of the\n"
        'set `noto` with captions of another form, "noto style, red apple, dark blue bg"; the rest are the base\'s.',
        "use": "also one with another text encoder",
        "limits": "It paints the same things as the base. Emoji that are asked for in the base's captions may come in either style.\n"
        "The module cannot read this model's own captions, so the first step needs a prompt in the base's words.",
    },
    "controlnet": {
        "title": "tiny-controlnet: a ControlNet for edges",
        "what": "A copy of the base's encoder half. It takes a picture of edges (64 x 64, white on black) and makes the base, which\n"
        "is frozen, paint along them. `hints/` holds edges of eight line icons that no model here was trained on.",
        "use": "also with a ControlNet",
        "tags": ["controlnet"],
        "limits": "It was trained on edges of icons on plain backgrounds: with edges of photos or drawings it paints icons.",
    },
}


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.md").read_text(encoding="utf-8")


def _stage(name: str, runs: list[dict[str, float]], batch: int) -> str:
    """Return table rows of a stage, one per run."""
    lines = []
    for i, run in enumerate(runs):
        terms = ", ".join(f"{k} {v:.4g}" for k, v in run.items() if k not in ("step", "seconds"))
        label = name if len(runs) == 1 else f"{name}, run {i + 1}"
        lines.append(f"| {label} | {run['step']:,.0f} | {batch} | {run['seconds'] / 60:.0f} | {terms} |")
    return "\n".join(lines)


def _stages(runs: dict[str, list[dict[str, float]]]) -> dict[str, str]:
    """Return stage -> its table rows."""
    from singdiffusion.train import load_config

    from . import base, encoder, vae, variants

    batches = {"vae": vae.BATCH, "base": base.BATCH, "encoder": encoder.BATCH}
    batches |= {"module": load_config("tiny-unet").batch, "decoder": load_config("tiny-decoder").batch}
    batches |= dict.fromkeys(VARIANTS, variants.BATCH)
    return {name: _stage(name, runs[name], batch) for name, batch in batches.items()}


def _brightness(model: str, found: dict[str, Any]) -> str:
    """Return what the demo measured: its settings in words, and a table."""
    settings = found["settings"]
    cell = lambda spread: f"{spread['mean']:.1f} ± {spread['std']:.1f}"  # noqa: E731
    lines = [
        f"`singdiffusion demo --model {model}`: mean luma of {settings['pictures']} pictures per prompt, 0 black to 255 white "
        "(± standard deviation over\n"
        f"pictures), guidance scale {settings['guidance_scale']}, {settings['num_inference_steps']} DDIM steps, seeds from "
        f"{settings['seed']}; *with* is the module `{settings['module']}`.",
        "",
        "| prompt | real pictures | without | with |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['prompt']} | {' | '.join(cell(row[key]) for key in ('real', 'off', 'on'))} |"
        for row in found["prompts"]
    ]
    return "\n".join(lines)


def _base(stages: dict[str, str], brightness: str) -> str:
    return _template("base").format(
        emoji=len(EMOJI),
        line=len(LINE),
        places=len(PLACES),
        colors=len(COLORS),
        shares=", ".join(f"{kind} {share:.0%}" for kind, share in SHARES.items()),
        held_out=HELD_OUT,
        licences="\n".join(f"| `{each.name}` | {each.version} | {each.licence} |" for each in PACKAGES.values()),
        stages="\n".join(stages[name] for name in ("vae", "base")),
        brightness=brightness,
    )


def _unet(stage: str, reference: dict[str, dict[str, float]]) -> str:
    rows = [f"| {prompt} | {row['mean']:.1f} | {row['std']:.1f} |" for prompt, row in reference.items()]
    return _template("unet").format(stages=stage, reference="\n".join(rows))


def _shares(name: str, row: dict[str, float]) -> str:
    """Return a table row: a number of pictures, and shares of it."""
    return " | ".join([f"| {name}", f"{row['count']:,}", *(f"{v:.1%}" for k, v in row.items() if k != "count")]) + " |"


def _encoder(folder: Path, stage: str) -> str:
    """Return the card of the joint encoder; its shape comes from the weights, its quality from ``figures.json``."""
    model = CLIPModel.from_pretrained(folder)
    figures = json.loads((folder / "figures.json").read_text())
    shape = lambda of: f"{of.num_hidden_layers} layers of width {of.hidden_size}"  # noqa: E731
    return _template("encoder").format(
        vision=shape(model.config.vision_config),
        text=shape(model.config.text_config),
        projection=model.config.projection_dim,
        scale=model.logit_scale.exp().item(),
        parameters=model.num_parameters() / 1e6,
        stages=stage,
        **{table: "\n".join(_shares(name, row) for name, row in of.items()) for table, of in figures.items()},
    )


def _variant(name: str, stage: str, brightness: str) -> str:
    words = VARIANTS[name] | {"tags": "".join(f"\n- {tag}" for tag in VARIANTS[name].get("tags", ()))}
    return _template("variant").format(model=f"tiny-{name}", stage=name, stages=stage, brightness=brightness, **words)


def cards(folder: Path) -> dict[str, str]:
    """Return folder name -> text of its README.md.

    Args:
        folder: the shipped models with their figures: ``training.json``, ``reference.json`` and ``encoder/figures.json``
            by ``export``, ``demo.json`` by ``make demos``.
    """
    runs, reference, demo = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("training", "reference", "demo")
    )
    stages = _stages(runs)
    brightness = {model: _brightness(model, found) for model, found in demo.items()}
    made = {
        "base": _base(stages, brightness["tiny"]),
        "unet": _unet(stages["module"], reference["prompts"]),
        "decoder": _template("decoder").format(stages=stages["decoder"], brightness=brightness["tiny"]),
        "encoder": _encoder(folder / "encoder", stages["encoder"]),
    }
    for name in VARIANTS:
        made[name] = _variant(name, stages[name], brightness[f"tiny-{name}"])
    return made


def write(folder: Path) -> None:
    """Write the card of every model in ``folder``."""
    for name, text in cards(folder).items():
        write_whole(folder / name / "README.md", text)
