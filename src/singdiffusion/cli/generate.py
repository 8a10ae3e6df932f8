"""``singdiffusion generate``"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..painting.schedulers import set_scheduler
from ..painting.sizes import check_size, whole_size
from . import app
from .common import check_json, console, control_image, finite, hush, progress, torch_device, torch_dtype, write_json
from .options import Dtype, Guidance, Height, Model, ModelConfig, Negative, Scheduler, Steps, Width


@app.command()
def generate(
    prompts: Annotated[list[str], typer.Argument(help="One or several prompts.", metavar="PROMPT...")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    model: Model = "tiny",
    model_config: ModelConfig = None,
    module: Annotated[
        str | None,
        typer.Option(
            help="tiny (embedded; also tiny-unet), a module's folder or hub id, or none; tiny by default for the embedded models."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="mean, the paper's first step, or moments, which also restores the variance; moments by default where the module can."
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also without SingDiffusion, and both side by side.")
    ] = False,
    scheduler: Scheduler = None,
    steps: Steps = 50,
    guidance: Guidance = 7.5,
    negative: Negative = None,
    first_prompt: Annotated[
        str | None, typer.Option(help="Told to the first step instead of the prompt, to steer colour and light.")
    ] = None,
    first_negative: Annotated[str | None, typer.Option(help="Negative prompt of the first step.")] = None,
    first_guidance: Annotated[float | None, typer.Option(help="Guidance scale of the first step.")] = None,
    color: Annotated[
        str | None, typer.Option(help="Start from this flat colour, #rrggbb or a name; no module is needed.")
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(
            help="A picture for the ControlNet to follow, where the model has one; for tiny-controlnet also the name of one of its own."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**62, help="Seed of a prompt's first picture; the next take the next.")
    ] = 0,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures a prompt.")] = 1,
    height: Height = None,
    width: Width = None,
    dtype: Dtype = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, ...")] = "cpu",
    json: Annotated[Path | None, typer.Option(help="Write settings, files and mean greys here.")] = None,
) -> None:
    """Paint prompts with SingDiffusion; each PNG carries its prompt, seed and settings.

    Example: singdiffusion generate "red apple on a dark blue background" --out out --compare --seed 7
    """
    from .. import files
    from ..errors import SingDiffusionError

    finite("--guidance", guidance)
    module = _which_module(model, module, color)
    first = {
        "method": method,
        "prompt": first_prompt,
        "negative_prompt": first_negative,
        "guidance_scale": first_guidance,
        "color": color,
    }
    first = {key: value for key, value in first.items() if value is not None}
    if module == "none" and first and color is None:
        raise SingDiffusionError("--method, --first-prompt, --first-negative and --first-guidance need a module")
    if compare and module == "none" and color is None:
        raise SingDiffusionError("--compare needs a module; --module none has nothing to compare with")
    if any(not prompt.strip() for prompt in prompts):
        raise SingDiffusionError("a prompt is empty; say what to paint")
    files.output_folder(out)
    check_json(json)
    hush()
    from ..evaluate.reports.pictures import side_by_side
    from ..painting.bases import load_model
    from ..painting.luma import mean_luma
    from ..painting.paint import paint as paint_pictures
    from ..painting.png import png
    from ..plugin import SingDiffusion

    started = time.monotonic()
    pipe = load_model(model, torch_dtype(dtype), model_config).to(torch_device(device))
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        set_scheduler(pipe, scheduler)
    height, width = whole_size(pipe, height, width)
    check_size(pipe, height, width)
    followed = control_image(pipe, control, model)
    sing = None
    if module != "none" or color is not None:
        sing = SingDiffusion() if module == "none" else SingDiffusion.from_pretrained(module)
        sing.enable(pipe, **first)
    options: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance, "negative_prompt": negative}
    options |= {key: value for key, value in (("height", height), ("width", width)) if value is not None}
    settings = options | {
        "model": model,
        "control": None if control is None else control.name,
        "module": module,
        "scheduler": type(pipe.scheduler).__name__,
        "dtype": dtype,
    }
    settings |= {"first_step": first} if first else {}
    controls = None if followed is None else [followed]
    names = _names(prompts)
    written: list[dict[str, Any]] = []

    def keep(image: Any, prompt: str, seed: int, kind: str) -> None:
        file = out / f"{names[prompt]}-{seed}{'' if kind == 'on' or sing is None else '-' + kind}.png"
        on = kind == "on" and sing is not None
        which = "without | with" if kind == "compare" else "with" if on else "without"
        files.write_whole(file, png(image, prompt, seed, settings, optimize=True, singdiffusion=which))
        grey = None if kind == "compare" else round(mean_luma(image), 3)
        written.append({"file": str(file), "prompt": prompt, "seed": seed, "singdiffusion": kind, "grey": grey})

    def paint(prompt: str, seed: int) -> Any:
        return paint_pictures(pipe, [prompt], [seed], on_step=advance, controls=controls, **options)[0]

    with progress("Painting", len(names) * count * steps * (2 if compare else 1)) as advance:
        for prompt in names:
            for each in range(seed, seed + count):
                on = paint(prompt, each)
                keep(on, prompt, each, "on" if sing else "off")
                if compare and sing is not None:
                    with sing.disabled():
                        off = paint(prompt, each)
                    keep(off, prompt, each, "off")
                    keep(side_by_side(off, on), prompt, each, "compare")
    seconds = time.monotonic() - started
    write_json(json, {"settings": settings, "seconds": round(seconds, 1), "pictures": written})
    for row in written:
        typer.echo(row["file"])
    console.print(f"{len(written)} file{'s' * (len(written) != 1)} in {seconds:.1f} s")


def _which_module(model: str, module: str | None, color: str | None) -> str:
    """The module asked for; the embedded model has its own, and a colour needs none."""
    from .. import tiny
    from ..errors import SingDiffusionError

    if module is not None:
        return module
    if color is not None:
        return "none"
    if model not in tiny.MODELS:
        from ..painting.bases import require_name

        require_name(model)
        raise SingDiffusionError(f"say which module fits {model}: --module FOLDER; or --module none, or --color")
    return "tiny"


def _names(prompts: list[str]) -> dict[str, str]:
    """Prompt -> the name of its files: letters and digits of any script and dashes, at most 60, no two alike."""
    names: dict[str, str] = {}
    for prompt in dict.fromkeys(prompts):
        slug = name = re.sub(r"[\W_]+", "-", prompt.lower())[:60].strip("-") or "picture"
        letters = iter("bcdefghijklmnopqrstuvwxyz")
        while name in names.values():
            name = f"{slug}-{next(letters, len(names))}"
        names[prompt] = name
    return names
