"""Measure the embedded models with the demo: ``make demos``, some three minutes.

Writes docs/embedded.md, docs/pictures/demo.png, and the figures from which the model cards are written. With ``--page-only`` it
writes the page from the stored figures.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from singdiffusion import tiny
from singdiffusion.files import write_whole

HERE = Path(__file__).parent
OUT = HERE.parent / "out" / "results"
FIGURES = Path(tiny.__file__).parent / "demo.json"  # ships, because the model cards are written from it

PAGE = """\
# One module, four models

*Written by `make demos`, which runs `singdiffusion demo --model MODEL` for each model. `make tiny` trains the weights.*

The module that comes with the package is `tiny`, a decoder that predicts mean and covariance. (The figures of `tiny-unet`,
the paper's network, are in [performance](performance.md).) It was trained once, on the latents of the embedded base and with
the base's text encoder. The base's U-Net was not needed, so the module serves every model of that latent space unchanged:

- `tiny`, the base: epsilon-prediction, as Stable Diffusion 1.5.
- `tiny-v`: fine-tuned to predict v, as Stable Diffusion 2.
- `tiny-community`: U-Net and text encoder fine-tuned to another style with captions of its own, as community checkpoints
  are. Its text encoder is no longer that of the module's training, so the module reads the prompt with its own.
- `tiny-controlnet`: the base with a ControlNet for edges. Plain backgrounds get no edges, and logos get those of eight icons
  that no model here was trained on. "Real" are these icons as drawn.

{totals}

*Miss* is the distance of the mean luma from that of real pictures, summed over the four prompts.

`tiny-v` has a smaller error from the start: with v-prediction a network can predict the background from the prompt alone,
whatever the noise, and this one has few prompts to learn. Without SingDiffusion its mean luma for single prompts is still
off by 10 to 30, and varies with the seed.

The tables have the mean luma of {pictures} pictures per prompt, 0 black to 255 white (± standard deviation over pictures);
guidance scale {guidance_scale}, {num_inference_steps} DDIM steps, seeds from {seed}.

{tables}
## Pictures

Without above, with below, each with the same seeds (guidance scale 5, `python -m recipes.tiny export`): `tiny-v`;
`tiny-community`, in three rows; `tiny-controlnet` along edges of icons that it was not trained on.

![The variants, without and with SingDiffusion](pictures/tiny_variants.png)

The community model's second row shows a limit. A module that reads the prompt with its own text encoder understands no
other words, and this one was not trained on "noto style, red apple, black bg". The third row shows what to do: steer the
first step with words of the module's training, `sing.enable(pipe, prompt="red apple on a black background")`. The model
still paints its own prompt. Modules trained on CLIP's text and captions from the web meet this limit much less often
than one with five hundred words.

In Python: `tiny.load_pipeline(model="tiny-v")`. On the command line: `singdiffusion generate ... --model tiny-community`.
`tiny-controlnet` also needs `--control PICTURE`, or `--control NAME` for one of its own edges, `tiny.hints()`.
"""


def measure(model: str) -> dict[str, Any]:
    """Return what ``singdiffusion demo`` measures with its defaults."""
    out = OUT / model
    options = ["--model", model, "--out", out, "--json", out / "figures.json"]
    subprocess.run([sys.executable, "-m", "singdiffusion", "demo", *map(str, options)], check=True)
    found = json.loads((out / "figures.json").read_text())
    rows = [
        {"prompt": row["prompt"]} | {key: _spread(row[key]) for key in ("real", "off", "on")}
        for row in found["prompts"]
    ]
    return {"settings": found["settings"], "prompts": rows}


def _spread(of: dict[str, float]) -> dict[str, float]:
    return {key: of[key] for key in ("mean", "std")}


def misses(found: dict[str, Any]) -> tuple[float, float]:
    """Return the distance from real pictures' mean luma, summed over the prompts: off and on."""
    rows = found["prompts"]
    off, on = (sum(abs(row[key]["mean"] - row["real"]["mean"]) for row in rows) for key in ("off", "on"))
    return off, on


def totals(figures: dict[str, dict[str, Any]]) -> str:
    """Return the table of all models."""
    lines = ["| model | miss without | miss with | smaller by |", "|---|---|---|---|"]
    for model, found in figures.items():
        off, on = misses(found)
        lines.append(f"| `{model}` | {off:.0f} | {on:.0f} | {off / on:.0f} times |")
    return "\n".join(lines)


def table(model: str, found: dict[str, Any]) -> str:
    """Return the table of one model, with its heading."""
    lines = [f"## {model}\n", "| prompt | real pictures | without | with SingDiffusion |", "|---|---|---|---|"]
    cell = lambda spread: f"{spread['mean']:.1f} ± {spread['std']:.1f}"  # noqa: E731
    for row in found["prompts"]:
        lines.append(f"| {row['prompt']} | {cell(row['real'])} | {cell(row['off'])} | {cell(row['on'])} |")
    return "\n".join(lines) + "\n"


def page(figures: dict[str, dict[str, Any]]) -> str:
    """Return the page."""
    settings = figures["tiny"]["settings"]
    return PAGE.format(
        totals=totals(figures),
        tables="\n".join(table(model, found) for model, found in figures.items()),
        **{key: settings[key] for key in ("pictures", "guidance_scale", "num_inference_steps", "seed")},
    )


def main(again: bool) -> None:
    """Write the page; before that, measure all models, where ``again`` is set."""
    if again:
        write_whole(FIGURES, json.dumps({model: measure(model) for model in tiny.MODELS}, indent=1) + "\n")
        shutil.copy(OUT / "tiny" / "grid.png", HERE / "pictures" / "demo.png")
    (HERE / "embedded.md").write_text(page(json.loads(FIGURES.read_text())))


if __name__ == "__main__":
    main("--page-only" not in sys.argv)
