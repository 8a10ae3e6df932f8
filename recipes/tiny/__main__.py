"""Make the embedded models: ``python -m recipes.tiny STAGE``. A stage that was stopped resumes.

Example: python -m recipes.tiny base --minutes 120
"""

from pathlib import Path
from typing import Annotated

import typer

from .training import Budget

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)

WORK = Path("build/tiny")
# minutes on two CPU cores, those of the shipped models
DEFAULT = {"vae": 16, "base": 169, "v": 25, "community": 25, "controlnet": 20, "encoder": 35}

Folder = Annotated[Path, typer.Option(help="Working folder: packages, checkpoints, logs, plots.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Budget of the stage in minutes, summed over all its runs.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Budget in optimizer steps.")]


def _budget(stage: str, minutes: float | None, steps: int | None) -> Budget:
    return Budget(DEFAULT[stage], None) if minutes is None and steps is None else Budget(minutes, steps)


@app.command()
def data(folder: Folder = WORK) -> None:
    """Fetch the pinned packages, render them, and draw a sheet of training pictures."""
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

    vae.train(folder, _budget("vae", minutes, steps))


@app.command()
def base(folder: Folder = WORK, minutes: Minutes = None, steps: Steps = None) -> None:
    """Encode the training pictures, then train the text encoder and the U-Net."""
    from . import base

    base.train(folder, _budget("base", minutes, steps))


@app.command()
def corpus(folder: Folder = WORK) -> None:
    """Write the training pictures with their captions to .tar shards, for `singdiffusion encode`."""
    from . import corpus

    corpus.write(folder)


@app.command()
def module(folder: Folder = WORK, steps: Steps = None) -> None:
    """Train the paper's module with `singdiffusion encode` and `singdiffusion train --config tiny-unet`."""
    from . import module

    module.train(folder, "module", steps)


@app.command()
def decoder(folder: Folder = WORK, steps: Steps = None) -> None:
    """Train the decoder of mean and covariance with `singdiffusion train --config tiny-decoder`."""
    from . import module

    module.train(folder, "decoder", steps)


@app.command()
def v(folder: Folder = WORK, minutes: Minutes = None, steps: Steps = None) -> None:
    """Fine-tune the base to predict v."""
    from . import variants

    variants.train_v(folder, _budget("v", minutes, steps))


@app.command()
def community(folder: Folder = WORK, minutes: Minutes = None, steps: Steps = None) -> None:
    """Fine-tune the base and its text encoder on another style, as community checkpoints are made."""
    from . import variants

    variants.train_community(folder, _budget("community", minutes, steps))


@app.command()
def controlnet(folder: Folder = WORK, minutes: Minutes = None, steps: Steps = None) -> None:
    """Train a ControlNet for edges for the base."""
    from . import variants

    variants.train_controlnet(folder, _budget("controlnet", minutes, steps))


@app.command()
def encoder(folder: Folder = WORK, minutes: Minutes = None, steps: Steps = None) -> None:
    """Train the joint encoder of pictures and captions, for a text score."""
    from . import encoder

    encoder.train(folder, _budget("encoder", minutes, steps))


@app.command()
def export(
    folder: Folder = WORK,
    pictures: Annotated[Path, typer.Option(help="Folder for contact sheets and plots.")] = Path("docs/pictures"),
    encoder_only: Annotated[bool, typer.Option("--encoder-only", help="Only the joint encoder.")] = False,
) -> None:
    """Write the files that ship into the package, and contact sheets."""
    from singdiffusion import tiny

    from . import export

    if encoder_only:
        export.export_encoder(folder, Path(tiny.__file__).parent, pictures)
    else:
        export.export(folder, pictures)


@app.command()
def cards(target: Annotated[Path, typer.Option(help="The shipped models.")] = Path("src/singdiffusion/tiny")) -> None:
    """Write the model cards from the figures that are stored beside the weights."""
    from . import cards

    cards.write(target)


@app.command()
def adopt(
    folder: Folder = WORK,
    source: Annotated[Path, typer.Option(help="The shipped models.")] = Path("src/singdiffusion/tiny"),
) -> None:
    """Fill an empty working folder with the shipped weights; `base --minutes M` then trains them M minutes further."""
    from . import export

    export.adopt(folder, source)


@app.command(name="all")
def everything(folder: Folder = WORK) -> None:
    """Run every stage in turn with the budgets of the shipped models; a run that was stopped resumes."""
    data(folder)
    for stage in (vae, base, module, decoder, v, community, controlnet, encoder, export):
        stage(folder)


if __name__ == "__main__":
    app()
