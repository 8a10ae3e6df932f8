"""``singdiffusion theory``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import check_json, console, progress, write_json


@app.command()
def theory(
    out: Annotated[Path, typer.Option(help="Folder for the figures and theory.json.")] = Path("out/theory"),
    json: Annotated[Path | None, typer.Option(help="Write the figures' numbers here too.")] = None,
) -> None:
    """The paper's propositions in numbers and pictures, on an exact oracle: no training, no download, half a minute.

    Example: singdiffusion theory --out out/theory
    """
    from .. import files
    from ..errors import SingDiffusionError

    files.output_folder(out)
    check_json(json)
    from .common import hush

    hush()
    try:
        from ..theory import report
    except ImportError as error:
        raise SingDiffusionError(
            f"theory needs {error.name}, which is not installed: pip install 'singdiffusion[theory]'"
        ) from error
    with progress("Checking", report.PARTS) as advance:
        found = report.run(out, advance)
    write_json(json, found)
    for name in ("proposition1", "proposition2", "removable", "proposition3"):
        console.print(name, {key: float(f"{value:.3g}") for key, value in found[name].items()})
    typer.echo(f"{out / 'theory.json'} and the figures beside it, {found['seconds']:.0f} s")
