"""``singdiffusion train``"""

from __future__ import annotations

import json as json_library
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from . import app
from .common import check_json, console, extra, hush, write_json


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
    shards: Annotated[Path | None, typer.Option(help="What `encode` wrote; as --set data.shards=.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run, gone on with where it was begun; as --set out=.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from this base's U-Net, as its weights allow.", metavar="BASE")
    ] = None,
    init_module: Annotated[
        str | None, typer.Option(help="Go on from this module: tiny, a folder or a hub id.", metavar="MODULE")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, or cpu even where there is something faster.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and the whole configuration, and stop.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the last validation's figures here.")] = None,
) -> None:
    """Train a module on what `encode` wrote; killed or stopped, the same command goes on exactly where it was.

    Example: singdiffusion train --config tiny-decoder --shards shards/ --out runs/mine --set steps=500

    On several processes: accelerate launch --num_processes 2 -m singdiffusion train --config FILE
    """
    from ..errors import SingDiffusionError

    hush()
    check_json(json)
    if device not in ("auto", "cpu"):
        raise SingDiffusionError(
            f"--device is auto or cpu, not {device!r}; which accelerator is used, accelerate decides"
        )
    with extra("train", "train"):
        from ..train.config import load_config
        from ..train.loop import Trainer

        given = {"data.shards": shards, "out": out, "network.init": init, "network.init_module": init_module}
        changes = _replaced(config, init, init_module)
        changes += [f"{key}={_quoted(value)}" for key, value in given.items() if value is not None]
        loaded = load_config(config, [*changes, *(set_ or [])])
        if dry_run:
            _say_all(loaded)
            return
        trainer = Trainer(loaded, typer.echo, cpu=device == "cpu")
    trainer.report(
        f"{len(trainer.data):,} pictures, {len(trainer.plan.validation)} held out; {loaded.batch} per step, "
        f"{trainer.plan.steps_per_epoch} steps per epoch; up to step {loaded.steps}"
    )
    with _progress(loaded.steps, loaded.log.every, trainer.main) as advance:
        figures = trainer.run(advance)
    if trainer.main:
        write_json(json, figures)
        typer.echo(f"{figures['module']}: {figures['pictures']:,} pictures in {figures['seconds']:,.0f} s")


def _replaced(config: str, init: str | None, init_module: str | None) -> list[str]:
    """Changes that take away what a preset says of the network's start and --init or --init-module says otherwise."""
    from ..train.config import read
    from ..train.networks import settings_of_module

    changes = []
    if init is not None:
        changes.append("network.init_module=none")
        if "init_module" in read(config).get("network", {}):  # of which kind and loss were
            changes += ["network.kind=unet", "loss=sample"]
    if init_module is not None:
        own = settings_of_module(init_module)
        changes += ["network.init=none", "network.options={}", *(f"{key}={value}" for key, value in own.items())]
    return changes


def _quoted(value: Any) -> str:
    return json_library.dumps(str(value))  # a TOML string


def _say_all(config: Any) -> None:
    """The configuration, and the network if the shards are there."""
    from ..data.manifest import MANIFEST
    from ..data.shards import LatentDataset
    from ..train.networks import build

    typer.echo(config.model_dump_json(indent=2))
    if not (config.data.shards / MANIFEST).is_file():
        typer.echo(f"{config.data.shards} has no {MANIFEST} yet, without which the network is not known")
        return
    network, origin, _ = build(config, LatentDataset(config.data.shards))
    typer.echo(
        f"{type(network).__name__}, {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters: {origin}"
    )


@contextmanager
def _progress(steps: int, every: int, shown: bool) -> Iterator[Any]:
    """A bar on a terminal, else a line now and then; yields what takes a step's figures."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not console.is_terminal or not shown:
        last = [0.0]

        def line(figures: dict[str, float]) -> None:
            now = time.monotonic()
            if figures["step"] % every == 0 and now - last[0] > 10:
                last[0] = now
                typer.echo(
                    f"step {figures['step']:.0f} of {steps}: loss {figures['loss']:.4g}, "
                    f"{figures['pictures_per_second']:.0f} pictures/s"
                )

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Training", total=steps)

        def move(figures: dict[str, float]) -> None:
            said = f"loss {figures['loss']:.4g}, {figures['pictures_per_second']:.0f} pictures/s"
            bar.update(task, completed=figures["step"], description=said)

        yield move
