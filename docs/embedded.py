"""Measure the embedded models by the demo; write docs/embedded.md, its picture and the figures of the model cards: ``make demos``, some
three minutes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from singdiffusion import tiny
from singdiffusion.files import write_whole

HERE = Path(__file__).parent
OUT = HERE.parent / "out" / "results"
FIGURES = Path(tiny.__file__).parent / "demo.json"  # ships: the model cards are written from it

PAGE = """\
# One module, four models

*Written by `make demos`, which runs `singdiffusion demo --model MODEL` for each; the weights are made by `make tiny`.*

The module that comes with the package (`tiny`, a decoder of mean and covariance; what `tiny-unet`, the paper's network, does is beside it in
[performance](performance.md)) was trained once, on the latents of the embedded base and with its text encoder. It never saw the base's U-Net, so it
serves every model of that latent space unchanged:

- `tiny`, the base: epsilon-prediction, Stable Diffusion 1.5's case.
- `tiny-v`: trained on to predict v, Stable Diffusion 2's case.
- `tiny-community`: U-Net and text encoder trained on in another style with captions of its own, as community checkpoints are. Its
  text encoder is no longer the one the module knows, so the module reads the prompt with the one it brings.
- `tiny-controlnet`: the base with a ControlNet for edges; the solid grounds get no edges, the logos those of eight icons that no model
  here was trained on, and "real" is then those icons as drawn.

{totals}

`tiny-v` errs less from the start: with v a network can read the ground off the prompt alone, whatever it is started from, and this one
knows few prompts. Its pictures of single prompts still err by 10 to 30 grey levels and vary with the seed.

Mean grey of {pictures} pictures a prompt, 0 black to 255 white (± standard deviation over pictures), guidance {guidance}, {steps} DDIM steps, seeds
from {seed}. *Miss* is the distance of the mean grey from that of real pictures, summed over the four prompts.

{tables}
Without above, with below, each with the same seeds (guidance 5, `python -m recipes.tiny export`): `tiny-v`; `tiny-community`, in three
rows; `tiny-controlnet` along edges of icons that it never saw.

![The variants, without and with SingDiffusion](pictures/tiny_variants.png)

The community model's second row shows a limit: a module that reads the prompt itself understands it as far as *its* text encoder does,
and this one never heard "noto style, red apple, black bg". Its third row is the way out, the first step told in words that it knows while
the model paints its own prompt: `sing.enable(pipe, prompt="red apple on a black background")`. Modules trained on CLIP's text and captions from
the web meet this much less than one that knows five hundred words.

In Python: `tiny.load_pipeline(model="tiny-v")`. On the command line: `singdiffusion generate ... --model tiny-community`, and with
`--control PICTURE` for `tiny-controlnet`; its own edges are in `tiny.hints()`, and `--control NAME` takes one of these.
"""


def measure(model: str) -> dict:
    """What ``singdiffusion demo`` finds, with its defaults."""
    out = OUT / model
    command = [
        sys.executable,
        "-m",
        "singdiffusion",
        "demo",
        "--model",
        model,
        "--out",
        out,
        "--json",
        out / "figures.json",
    ]
    subprocess.run([str(part) for part in command], check=True)
    told = json.loads((out / "figures.json").read_text())
    rows = [
        {"prompt": row["prompt"]} | {key: _spread(row[key]) for key in ("real", "off", "on")} for row in told["prompts"]
    ]
    return {"settings": told["settings"], "prompts": rows}


def _spread(of: dict) -> dict:
    return {key: of[key] for key in ("mean", "std")}


def misses(found: dict) -> tuple[float, float]:
    """(off, on), summed over the prompts."""
    rows = found["prompts"]
    return tuple(sum(abs(row[key]["mean"] - row["real"]["mean"]) for row in rows) for key in ("off", "on"))  # type: ignore[return-value]


def table(model: str, found: dict) -> str:
    """A model's table."""
    lines = [f"## {model}\n", "| prompt | real pictures | without | with SingDiffusion |", "|---|---|---|---|"]
    cell = lambda spread: f"{spread['mean']:.1f} ± {spread['std']:.1f}"  # noqa: E731
    for row in found["prompts"]:
        lines.append(f"| {row['prompt']} | {cell(row['real'])} | {cell(row['off'])} | {cell(row['on'])} |")
    return "\n".join(lines) + "\n"


def main(again: bool) -> None:
    """Measure, unless it is ``--page-only`` that is asked for, and write the page."""
    if again:
        write_whole(FIGURES, json.dumps({model: measure(model) for model in tiny.MODELS}, indent=1) + "\n")
        shutil.copy(OUT / "tiny" / "grid.png", HERE / "pictures" / "demo.png")
    found = json.loads(FIGURES.read_text())
    totals = ["| model | miss without | miss with | smaller by |", "|---|---|---|---|"]
    for model, each in found.items():
        off, on = misses(each)
        totals.append(f"| `{model}` | {off:.0f} | {on:.0f} | {off / on:.0f} times |")
    page = PAGE.format(
        totals="\n".join(totals),
        tables="\n".join(table(model, each) for model, each in found.items()),
        **{key: found["tiny"]["settings"][key] for key in ("pictures", "guidance", "steps", "seed")},
    )
    (HERE / "embedded.md").write_text(page)


if __name__ == "__main__":
    main("--page-only" not in sys.argv)
