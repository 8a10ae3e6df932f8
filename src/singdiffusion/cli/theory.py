"""``singdiffusion theory``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import check_json, extra, hush, progress, say, show, write_json


@app.command()
def theory(
    out: Annotated[Path, typer.Option(help="Folder for the figures and theory.json.")] = Path("out/theory"),
    json: Annotated[Path | None, typer.Option(help="Write the numbers also into this file.")] = None,
) -> None:
    """Check the paper's propositions on an exact model.

    Writes numbers and figures. Without training, without downloads, in half a minute, on the CPU.

    \b
    Example:
      singdiffusion theory --out out/theory
    """
    from .. import files

    files.check_folder(out)
    check_json(json)
    hush()
    with extra("theory", "theory"):
        from ..theory import report
    files.output_folder(out)
    with progress("Checking", report.PARTS) as advance:
        found = report.run(out, advance)
    write_json(json, found)
    for name in ("proposition1", "proposition2", "removable", "proposition3"):
        say(f"{name} " + ", ".join(f"{key} {value:.3g}" for key, value in found[name].items()))
    show(f"{out / 'theory.json'} and figures in the same folder, {found['seconds']:.0f} s")
