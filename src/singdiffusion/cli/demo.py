"""``singdiffusion demo``"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import check_json, console, finite, hush, progress, show, write_json
from .options import Figures, Method, Steps

GRID = "grid.png"


@app.command()
def demo(
    model: Annotated[
        str, typer.Option(help="The embedded model: tiny, tiny-v, tiny-community or tiny-controlnet.")
    ] = "tiny",
    module: Annotated[str, typer.Option(help="tiny, tiny-unet, a module's folder or a hub id.")] = "tiny",
    method: Method = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and the grid.")] = Path("out/demo"),
    pictures: Annotated[int, typer.Option(min=1, max=1000, help="Pictures per prompt.")] = 16,
    steps: Steps = 50,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 7.5,
    seed: Annotated[
        int, typer.Option(min=0, max=2**62, help="Seed of the first picture; the following ones count it up.")
    ] = 0,
    json: Figures = None,
) -> None:
    """Paint the paper's four prompts, without and with.

    On an embedded model: a page, a sheet of pictures, and a table of their mean luma.

    \b
    Example:
      singdiffusion demo --model tiny-v --out out/demo-v \\
        --json out/demo-v/figures.json
    """
    from .. import files, tiny

    reference = tiny.reference(model)
    finite("--guidance", guidance)
    files.check_folder(out)
    check_json(json)
    started = time.monotonic()
    hush()
    from ..evaluate.brightness import measure
    from ..evaluate.painter import Painter
    from ..evaluate.processes import Processes
    from ..evaluate.reports.demo import demo_document
    from ..evaluate.reports.document import PAGE, check_report_folder
    from ..evaluate.reports.pictures import grid
    from ..evaluate.selection import controls_for, remedies_for
    from ..painting.png import png
    from ..painting.prompts import PAPER_PROMPTS, named

    check_report_folder(out, (PAGE, GRID))
    pipe, prompts = tiny.load_pipeline(model=model), named(PAPER_PROMPTS)
    (off, on), _ = remedies_for(pipe, [module], method)
    options = {"num_inference_steps": steps, "guidance_scale": guidance}
    with tempfile.TemporaryDirectory() as cache:
        painter = Painter(
            model, pipe, Path(cache), Processes(cpu=True), options, controls=controls_for(pipe, model, None)
        )
        with progress("Painting without and with", 2 * len(prompts) * pictures) as advance:
            without, with_sing = measure(painter, [off, on], prompts, pictures, seed, advance)
    settings = {
        "module": module,
        "method": on.method,
        **options,
        "pictures": pictures,
        "seed": seed,
        "scheduler": f"{type(pipe.scheduler).__name__} {pipe.scheduler.config.timestep_spacing}",
    }
    document = demo_document((without, with_sing), prompts, reference, settings, time.monotonic() - started)
    pairs = [(prompt.text, without.shown[prompt.id], with_sing.shown[prompt.id]) for prompt in prompts]
    files.output_folder(out)
    files.write_whole(out / PAGE, document.html())
    files.write_whole(out / GRID, png(grid(pairs, columns=4, zoom=2), optimize=True))
    write_json(json, document.figures)
    console.print(document.tables[0].rich())
    show(
        f"{out / PAGE}  (open it in a browser; {out / GRID} is the picture alone), {document.figures['seconds']:.0f} s"
    )
