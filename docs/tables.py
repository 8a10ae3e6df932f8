"""Write the pages of docs/ whose tables follow from the code: ``python docs/tables.py`` (tests/test_docs.py compares them)."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path

import diffusers

from singdiffusion import Audit, audit
from singdiffusion.compat import SINCE, toml
from singdiffusion.plugin.pipelines import PIPELINES, UNTOUCHED
from singdiffusion.plugin.schedulers import FAMILIES, REFUSED

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "tests" / "files" / "audit"
SIGMAS = ("karras", "exponential", "beta", "flow")
# of each of FAMILIES: its name, and the state that its schedulers keep
STATES = (
    (
        "Variance-preserving, with cumulative alphas",
        "$\\alpha x_0 + \\sigma \\epsilon$ with $\\alpha^2$ = `alphas_cumprod[t]`",
    ),
    ("Variance-preserving, with sigmas", "$\\alpha x_0 + \\sigma \\epsilon$ with $\\sigma / \\alpha$ = `sigmas[0]`"),
    ("Variance-exploding", "$x_0 + s \\epsilon$ with $s$ = `sigmas[0]`"),
    ("EDM", "$x_0 + s \\epsilon$ with $s$ = `sigmas[0]`; the network's input is scaled by `sigma_data`"),
    ("Flow matching", "$(1 - s) x_0 + s \\epsilon$ with $s$ = `sigmas[0]`"),
)

COMPATIBILITY = """\
# What it works with

*Written by `python docs/tables.py` from the tables in `src/singdiffusion/plugin`; a test compares this page with them.*

## Schedulers

`tests/plugin/test_schedulers.py` runs a real `StableDiffusionPipeline` with every class below: in every timestep spacing, sigma option and
zero-SNR rescale that the class has, for epsilon, v and sample prediction, at 4, 10, 20 and 50 steps (`make test-all`; `make test` runs 4 and
50 steps with epsilon). It asserts that the U-Net's first input is $\\alpha \\bar y + \\sigma x_1$ to 1e-5. Where the scheduler's own `add_noise` and
`scale_model_input` can confirm the table, they are compared with it too. The FlowMatch classes are read for the audit only.

{families}
A class that is not here is probed: its `add_noise` and `scale_model_input` at the first timestep must agree with one of these families.
Otherwise it is refused, and the message gives the values that were found. Refused by name:

{refused}
## Pipelines

Each has a test that runs the real class with small random weights (`tests/plugin/test_pipelines.py`): negative prompts, several pictures per
prompt, lists of generators, guidance 1, callbacks, a scheduler that is changed after enabling, and bit-identical pictures after `disable()`.

{pipelines}
These stay as they are, with one warning:

{untouched}
- every pipeline class that is in neither list, if its scheduler's class begins with `FlowMatch` (Stable Diffusion 3, Flux, ...): $\\alpha$ is 0
  where it starts
- a call of an inpainting pipeline below strength 1: it starts from a picture

AnimateDiff's FreeNoise is refused, because it changes the prompt from frame to frame. FreeInit has not been tried. With `moments` all frames
of a video are made darker or brighter together.

Any other class is refused by name. Subclasses count as other classes, because they may prepare latents in other ways.

SDXL's modular pipeline takes the first step as a block: `singdiffusion.plugin.modular.add_first_step(blocks, module)` ([SDXL](sdxl.md#the-modular-pipeline)).

## Latents and text

A module's configuration holds its latent space: channels, and the VAE's scaling and shift factors. Another latent space is an error.

| text encoder | what the module reads |
|---|---|
| the pipeline's is that of the module's training | the pipeline's embeddings, prompt weighting included; [long prompts by chunks](stable-diffusion.md#long-prompts) |
| the pipeline's is another one, and the module has its own | the prompt as text, with its own encoder; so it works on any base of that latent space |
| the pipeline's is another one, and the module has none | an error |

If only `prompt_embeds` are passed, a module that must read the prompt as text needs one for the first step:
`sing.enable(pipe, prompt="...")`.

## Versions

`pip install` replaces a package only if it is older than these versions. None has an upper bound.

| package | from | |
|---|---|---|
{floors}
The extra `web` needs Gradio 6, which needs huggingface_hub 0.33.5. Differences between versions are in `src/singdiffusion/compat.py`. Some
schedulers, pipelines and options in the tables of this page need a newer diffusers:

| | since diffusers |
|---|---|
{since}
### Environments

The quick tests ran in these environments on 26 November 2026, and the counts are those of that run. What failed was mended, and its tests were
run again where the note states it. The same seed gave the same pictures in all of them, to 1 of 255 (`tests/painting/test_same_picture.py`).
`pip install` of the wheel changed no torch, numpy, diffusers, transformers or huggingface_hub in any of them. Without a GPU, torch's CUDA builds
run on the CPU.

{environments}
- `make test-oldest`, `make test-forge` and `make test-invokeai` make three of them again, with the torch of `constraints.txt`. Their pins are in
  `environments/`.
- The others were installed by hand: the pins that the line names, with another torch or Python. Python 3.12, 3.13 and later were not run again.
- Skipped are tests of what a version lacks, of Gradio where it is not installed, and of what needs another package. `-rs` names each.
- Forge pins accelerate 0.21, and `pip install` replaces it. With 0.21, Forge's own transformers 4.46 cannot load a pipeline of diffusers.
"""

NOTES = {
    "torch": "below 2.6, modules in `.bin` files are refused: torch could run code from them (CVE-2025-32434)",
    "safetensors": "reads float8, in which some of the embedded weights are",
}

AUDIT = """\
# Is my model affected?

*The table is written by `python docs/tables.py` from the configurations in `tests/files/audit`.*

```sh
singdiffusion audit path/to/model --steps 20 --scheduler euler --json audit.json
singdiffusion audit path/to/scheduler_config.json --latents 64 64
```

```python
from singdiffusion import audit, tiny

pipe = tiny.load_pipeline()  # or any other pipeline, or a scheduler
print(audit(pipe, num_inference_steps=50))
```

For a hub id, only configurations are downloaded.

*Needs a download, if they are not in the cache.*

```sh
singdiffusion audit stable-diffusion-v1-5/stable-diffusion-v1-5
```

| configuration | prediction | steps | latents | terminal SNR | first timestep | alpha | sigma / alpha | d | verdict |
|---|---|---|---|---|---|---|---|---|---|
{rows}

## The verdicts

| verdict | d | what it means | what to do |
|---|---|---|---|
| absent | below 0.2 | sampling starts where training ended; the loss disappears in the noise | nothing, unless there is [a warning](#combinations-that-break) |
| mild | 0.2 to 2 | very dark and very bright pictures lose a little | a module or a colour helps a little |
| present | 2 or more | the eye sees it: pictures are pulled to average grey | a module for this latent space, or a flat colour; the model stays as it is |

$$
d = \\frac{{\\alpha \\sqrt{{H W}}}}{{\\sigma}}
$$

Training ended with a mean in the latents, and sampling starts without it. $d$ is the size of that difference in
standard deviations of the noise, for a latent channel whose mean is 1. A mean is taken over all $H W$ numbers of a channel, and noise averages
out in it. So larger latents show the flaw more: SDXL loses more than SD-1.5 with the same schedule.

## How to read the columns

- **terminal SNR**: $\\alpha^2 / \\sigma^2$ at the last timestep of training. 0 is pure noise, and there is nothing to fix.
- **first timestep**: where sampling starts. It depends on scheduler, spacing and steps. With `leading` spacing, fewer steps start earlier and
  lose more.
- **alpha** ($\\alpha$): how much of the picture the model expects to see there. Sampling gives it none.
- **sigma / alpha** ($\\sigma / \\alpha$; `gain` in the command's output and in JSON): the factor by which an error of a noise prediction grows in its
  estimate of the picture. v-prediction removes this division by $\\alpha$, but not the bias.

`singdiffusion audit` prints the same for one model, with the reason and the remedy as sentences. `--json FILE` writes it.

## Combinations that break

The audit warns of them:

{warnings}
"""


def floors() -> str:
    """Return the rows of a table: the lowest version of each package that the core needs."""
    project = toml().loads((HERE.parent / "pyproject.toml").read_text())["project"]
    needed = [f"Python{project['requires-python']}", *project["dependencies"]]
    pairs = [line.split(">=") for line in needed]
    return "\n".join(f"| {name} | {version} | {NOTES.get(name, '')} |" for name, version in pairs) + "\n"


def since() -> str:
    """Return the rows of a table: what older versions of diffusers lack."""
    return "\n".join(f"| `{name}` | {major}.{minor} |" for name, (major, minor) in SINCE.items()) + "\n"


def environments() -> str:
    """Return a table of the environments in which the tests ran, from environments.json, which is kept by hand."""
    rows = json.loads((HERE / "environments.json").read_text())
    columns = (
        "environment",
        "Python",
        "torch",
        "diffusers",
        "transformers",
        "numpy",
        "passed",
        "failed",
        "skipped",
        "note",
    )
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[key]) for key in columns) + " |" for row in rows)]) + "\n"


def families() -> str:
    """Return a section with a table for each family of schedulers."""
    parts = []
    for family, (title, state) in zip(FAMILIES, STATES, strict=True):
        lines = [
            f"### {title}\n\nThe state is {state}.\n",
            "| class | timestep spacing | sigmas | zero SNR |",
            "|---|---|---|---|",
        ]
        for name in family.classes:
            known = set(inspect.signature(getattr(diffusers, name).__init__).parameters)
            spacing = "leading, linspace, trailing" if "timestep_spacing" in known else "its own"
            sigmas = ", ".join(s for s in SIGMAS if f"use_{s}_sigmas" in known) or "its own"
            lines.append(f"| `{name}` | {spacing} | {sigmas} | {'yes' if 'rescale_betas_zero_snr' in known else ''} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _digits(number: float, digits: int) -> str:
    """Return a number with so many significant digits.

    It is rounded to six digits before: schedulers compute in float32, whose last bit differs between processors and must not decide a
    tie (128 / 4096 = 0.03125).
    """
    return f"{float(f'{number:.6g}'):.{digits}g}"


def _row(name: str, steps: int, found: Audit) -> str:
    gain = f"{found.gain:.2f}" if math.isfinite(found.gain) else "infinite"
    return (
        f"| {name} | {found.prediction_type} | {steps} | {found.latents[0]} x {found.latents[1]} | {_digits(found.terminal_snr, 3)} "
        f"| {_digits(found.first_timestep, 4)} | {_digits(found.alpha, 4)} | {gain} | {_digits(found.d, 3)} | {found.verdict} |"
    )


def pages() -> dict[str, str]:
    """Return the pages: file name -> text."""
    latents = json.loads((CONFIGS / "latents.json").read_text())
    rows, warnings = [], []
    for name, size in latents.items():
        for steps in (50, 10) if name in ("sd-1.5", "sdxl") else (50,):
            found = audit(CONFIGS / f"{name}.json", steps, latents=size)
            rows.append(_row(name, steps, found))
            warnings += [f"{name}: {line}" for line in found.warnings]
    return {
        "audit.md": AUDIT.format(rows="\n".join(rows), warnings=_bullets(warnings)).rstrip() + "\n",
        "compatibility.md": COMPATIBILITY.format(
            families=families(),
            floors=floors(),
            since=since(),
            environments=environments(),
            refused=_bullets([f"`{name}`: {reason}" for name, reason in REFUSED.items()]),
            pipelines=_bullets([f"`{name}`" for name in PIPELINES]),
            untouched=_bullets([f"`{name}`: {reason}" for name, reason in UNTOUCHED.items()]).rstrip(),
        ),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        (HERE / file).write_text(text)
        print(HERE / file)
