"""``singdiffusion demo``"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from . import app
from .common import check_json, console, finite, hush, progress, write_json
from .options import Figures, Method, Steps


@app.command()
def demo(
    model: Annotated[
        str, typer.Option(help="The embedded model: tiny, tiny-v, tiny-community or tiny-controlnet.")
    ] = "tiny",
    module: Annotated[str, typer.Option(help="tiny, tiny-unet, a module's folder or a hub id.")] = "tiny",
    method: Method = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and the grid.")] = Path("out/demo"),
    pictures: Annotated[int, typer.Option(min=1, max=1000, help="Pictures a prompt.")] = 16,
    steps: Steps = 50,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 7.5,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Seed of the first picture; the next take the next.")] = 0,
    json: Figures = None,
) -> None:
    """The paper's four prompts, without and with SingDiffusion, on an embedded model.

    Example: singdiffusion demo --model tiny-v --out out/demo-v --json out/demo-v/figures.json
    """
    from .. import files, tiny

    reference = tiny.reference(model)
    finite("--guidance", guidance)
    files.output_folder(out)
    check_json(json)
    started = time.monotonic()
    hush()
    from ..evaluate import brightness, report
    from ..plugin import SingDiffusion

    pipe = tiny.load_pipeline(model=model)
    pipe.set_progress_bar_config(disable=True)
    sing = SingDiffusion.from_pretrained(module).enable(pipe, method=method)
    real = {p: brightness.Spread(v["mean"], v["std"]) for p, v in reference.items()}
    seeds = range(seed, seed + pictures)
    with progress("Painting without and with", 2 * len(brightness.PAPER_PROMPTS) * pictures * steps) as advance:
        results = brightness.compare(
            pipe,
            sing,
            brightness.PAPER_PROMPTS,
            seeds,
            real,
            _controls(tiny.hints()) if model == "tiny-controlnet" else None,
            on_step=advance,
            batch=16,
            num_inference_steps=steps,
            guidance_scale=guidance,
        )
    seconds = time.monotonic() - started
    settings = {
        "module": module,
        "method": sing.method,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "pictures": pictures,
        "seed": seed,
        "scheduler": f"{type(pipe.scheduler).__name__} {pipe.scheduler.config.timestep_spacing}",
    }
    title = "Dark rooms and white pages: one step changed"
    files.write_whole(out / "grid.png", report.png(report.grid(results, zoom=2)))
    files.write_whole(out / "index.html", report.page(results, title, {"model": model} | settings))
    write_json(json, report.as_json(results, model, settings, seconds))
    console.print(report.table(results))
    typer.echo(
        f"{out / 'index.html'}  (open it in a browser; {out / 'grid.png'} is the picture alone), {seconds:.0f} s"
    )


def _controls(hints: dict[str, Any]) -> dict[str, list[Any]]:
    """What the ControlNet follows: no edges on the solid grounds, icons for the logos."""
    from PIL import Image

    from ..evaluate.brightness import PAPER_PROMPTS

    icons = list(hints.values())
    blank = [Image.new("RGB", icons[0].size)]
    return {prompt: blank if prompt.startswith("solid") else icons for prompt in PAPER_PROMPTS}
