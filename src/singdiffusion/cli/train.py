"""``singdiffusion train``"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from . import app
from .common import Advance, check_json, extra, hush, progress, show, write_json


@app.command()
def train(
    config: Annotated[
        str,
        typer.Option(
            help="A TOML file, or a preset: fine-tune, sd15-decoder, sd15-paper, tiny-decoder, tiny-unet.",
            metavar="FILE",
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a value: steps=1000, data.held_out=100; may be repeated.", metavar="KEY=VALUE"
        ),
    ] = None,
    shards: Annotated[
        str | None, typer.Option(help="Folder that `encode` wrote; short for --set data.shards=.", metavar="PATH")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder of the run; a run that was begun there is resumed. Short for --set out=.", metavar="PATH"
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from this base's U-Net, as far as its weights fit.", metavar="BASE")
    ] = None,
    init_module: Annotated[
        str | None, typer.Option(help="Fine-tune this module: tiny, a folder or a hub id.", metavar="MODULE")
    ] = None,
    device: Annotated[str, typer.Option(help="auto is the fastest one here, chosen by accelerate; or cpu.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the whole configuration and the network, and stop.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write the last validation's figures as JSON into this file.")
    ] = None,
) -> None:
    """Train a module on what `encode` wrote.

    After a stop, the same command resumes exactly where it was.

    \b
    Example:
      singdiffusion train --config tiny-decoder --shards shards/ \\
        --out runs/mine --set steps=500

    \b
    On several processes:
      accelerate launch --num_processes 2 -m \\
        singdiffusion train --config FILE
    """
    from ..errors import SingDiffusionError

    hush()
    check_json(json)
    if device not in ("auto", "cpu"):
        raise SingDiffusionError(f"--device is auto or cpu, not {device!r}; accelerate chooses the accelerator")
    with extra("train", "train"):
        from ..train.config import load_config
        from ..train.loop import Trainer

        named = {"data.shards": shards, "out": out, "network.init": init, "network.init_module": init_module}
        given = {key: value for key, value in named.items() if value is not None}
        loaded = load_config(config, set_, _replaced(config, init, init_module) | given)
        if dry_run:
            _print_all(loaded)
            return
        trainer = Trainer(loaded, show, cpu=device == "cpu")
    trainer.report(
        f"{len(trainer.data):,} pictures, {len(trainer.plan.validation)} held out; {loaded.batch} per step, "
        f"{trainer.plan.steps_per_epoch} steps per epoch; up to step {loaded.steps}"
    )
    with progress("Training", loaded.steps, shown=trainer.main) as advance:
        figures = trainer.run(_reporter(advance))
    if trainer.main:
        write_json(json, figures)
        show(f"{figures['module']}: {figures['pictures']:,} pictures in {figures['seconds']:,.0f} s")


def _replaced(config: str, init: str | None, init_module: str | None) -> dict[str, Any]:
    """Return values in the place of a preset's own start of the network, where --init or --init-module names another."""
    from ..train.config import read
    from ..train.networks import settings_of_module

    values: dict[str, Any] = {}
    if init is not None:
        values["network.init_module"] = None
        network = read(config).get("network")
        if isinstance(network, dict) and "init_module" in network:  # kind and loss were this module's
            values |= {"network.kind": "unet", "loss": "sample"}
    if init_module is not None:
        own = settings_of_module(init_module)
        values |= {"network.init": None, "network.options": {}} | own
        if own.get("network.kind") == "decoder":  # which has no such option; the preset's was for a U-Net
            values["gradient_checkpointing"] = False
    return values


def _print_all(config: Any) -> None:
    """Print the configuration, and the network if the shards are there."""
    from ..data.manifest import MANIFEST
    from ..data.shards import LatentDataset
    from ..train.networks import build, parameter_count

    show(config.model_dump_json(indent=2))
    if not (config.data.shards / MANIFEST).is_file():
        show(f"{config.data.shards} has no {MANIFEST} yet; the size of the network follows from it")
        return
    network, origin, _ = build(config, LatentDataset(config.data.shards))
    show(f"{type(network).__name__}, {parameter_count(network) / 1e6:.2f} M parameters: {origin}")


def _reporter(advance: Advance) -> Callable[[dict[str, float]], None]:
    """Return what takes a step's figures and moves the progress bar; a resumed run begins at its own step."""
    done = 0

    def report(figures: dict[str, float]) -> None:
        nonlocal done
        step = int(figures["step"])
        note = f"loss {figures['loss']:.4g}, {figures['pictures_per_second']:.0f} pictures/s"
        advance(step - done, note=note)
        done = step

    return report
