"""``python -m recipes.tiny STAGE``: make the embedded models. Every stage resumes where it was stopped.

python -m recipes.tiny all                   everything, with the budgets that made the shipped weights
python -m recipes.tiny vae --minutes 12
python -m recipes.tiny base --minutes 120
python -m recipes.tiny module --minutes 15
python -m recipes.tiny export                fp16 weights, model cards, contact sheet -> src/singdiffusion/tiny
"""

from pathlib import Path
from typing import Annotated

import typer

from .training import Budget

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)

Folder = Annotated[Path, typer.Option(help="Working folder: packages, checkpoints, logs, plots.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Wall-clock budget of the stage, resumes included.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Budget in optimizer steps.")]
WORK = Path("build/tiny")


def _budget(minutes: float | None, steps: int | None, default: float) -> Budget:
    return Budget(default, None) if minutes is None and steps is None else Budget(minutes, steps)


@app.command()
def data(folder: Folder = WORK) -> None:
    """Fetch the pinned packages, render them, and draw a sheet of what the models will see."""
    import numpy as np

    from . import look, pictures

    world = pictures.load_world(folder)
    rng = np.random.default_rng(0)
    drawn = [world.sample(rng) for _ in range(96)]
    look.sheet([p for p, _ in drawn], folder / "data_sheet.png", captions=[c for _, c in drawn])


@app.command()
def vae(folder: Folder = WORK, minutes: Minutes = None, steps: Steps = None) -> None:
    """Train the autoencoder."""
    from . import vae

    vae.train(folder, _budget(minutes, steps, 12))


@app.command()
def base(folder: Folder = WORK, minutes: Minutes = None, steps: Steps = None) -> None:
    """Encode the composites and train the text encoder and the U-Net."""
    from . import base

    base.train(folder, _budget(minutes, steps, 120))


@app.command()
def module(folder: Folder = WORK, minutes: Minutes = None, steps: Steps = None) -> None:
    """Train the SingDiffusion module on the base's latents."""
    from . import module

    module.train(folder, _budget(minutes, steps, 12))


if __name__ == "__main__":
    app()
