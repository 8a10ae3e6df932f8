"""``singdiffusion serve``"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import SingDiffusionError
from . import app
from .common import console, control_image, extra, hush, own_hints, torch_device, torch_dtype
from .options import Dtype, Model, ModelConfig

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@app.command()
def serve(
    model: Model = "tiny",
    model_config: ModelConfig = None,
    module: Annotated[
        list[str] | None,
        typer.Option(
            help="A module's folder or hub id, or none; said twice: a U-Net and a decoder to choose from. The embedded by default."
        ),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(help="A picture for the ControlNet to follow, where the model has one; may be repeated."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than 127.0.0.1 let other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 7860,
    max_steps: Annotated[int, typer.Option(min=1, max=1000, help="Most steps a request may ask for.")] = 150,
    max_size: Annotated[int, typer.Option(min=8, max=4096, help="Most pixels of a side.")] = 1024,
    max_count: Annotated[int, typer.Option(min=1, max=16, help="Most pictures of a request.")] = 4,
    max_waiting: Annotated[
        int, typer.Option(min=0, max=500, help="Most requests that wait; the next is told to try again.")
    ] = 16,
    dtype: Dtype = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, ...")] = "cpu",
) -> None:
    """A page in the browser: a prompt, painted without and with SingDiffusion, and a slider between the two.

    Example: singdiffusion serve --port 7860
    """
    hush(logging.WARNING)  # what fails while painting is told to the visitor in a few words, and here why
    with extra("web", "serve"):
        from ..web.server import Server
    from ..painting.bases import load_model
    from ..plugin import SingDiffusion
    from ..web.settings import Limits
    from ..web.studio import Studio, examples_of

    limits = Limits(steps=max_steps, side=max_size, count=max_count, waiting=max_waiting)

    alone = host in LOOPBACK

    def load() -> Studio:
        pipe = load_model(model, torch_dtype(dtype), model_config).to(torch_device(device))
        modules = {name: SingDiffusion.from_pretrained(name) for name in _names(model, module)}
        controls = _controls(model, pipe, control)
        names = str if alone else bare_name
        return Studio(model, pipe, modules, controls=controls, examples=examples_of(model), limits=limits, names=names)

    server = Server(load, host, port)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        typer.echo(f"The page is at {server.url} (Ctrl-C stops it)")
        if not alone:
            console.print("Other machines can reach it; there is no password.")
        server.wait()
    except KeyboardInterrupt:
        typer.echo("stopped")
    finally:
        server.close()


def _names(model: str, modules: list[str] | None) -> list[str]:
    """The modules asked for; the embedded models have two."""
    from .. import tiny

    if modules is None:
        return ["tiny-unet", "tiny"] if model in tiny.MODELS else []
    if "none" in modules and len(modules) > 1:
        raise SingDiffusionError("--module none goes with no other module")
    return [] if modules == ["none"] else modules


def bare_name(name: str) -> str:
    """A model's or module's name as other machines may see it: of a path of this one only the last part."""
    return os.path.basename(os.path.abspath(name)) if os.path.exists(name) else name


def _controls(model: str, pipe: Any, files: list[Path] | None) -> dict[str, Any]:
    """Name -> what a ControlNet can follow; the embedded one brings some."""
    if files is None:
        return own_hints(model) if getattr(pipe, "controlnet", None) is not None else {}
    found: dict[str, Any] = {}
    for file in files:
        if file.name in found:
            raise SingDiffusionError(f"--control {file}: there is one of this name already; give each picture another")
        found[file.name] = control_image(pipe, file, model)
    return found
