"""``singdiffusion serve``"""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import SingDiffusionError
from ..files import bare_name
from . import app
from .common import announce, control_image, extra, hush, module_for, own_hints, say, show
from .options import Device, Dtype, Model, ModelConfig


@app.command()
def serve(
    model: Model = "tiny",
    model_config: ModelConfig = None,
    module: Annotated[
        list[str] | None,
        typer.Option(
            help="auto for the one that fits the model, a module's folder or hub id, or none; may be repeated, for a U-Net and a "
            "decoder. By default auto, and both embedded ones for the embedded models."
        ),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(help="For a model with a ControlNet: a picture that it follows; may be repeated."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than 127.0.0.1 let other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 7860,
    root_path: Annotated[
        str,
        typer.Option(
            help="Path under which a reverse proxy shows the page, such as /painting, or its whole address.",
            metavar="PATH",
        ),
    ] = "",
    max_steps: Annotated[int, typer.Option(min=1, max=1000, help="Most denoising steps of a request.")] = 150,
    max_size: Annotated[int, typer.Option(min=8, max=4096, help="Largest height and width in pixels.")] = 1024,
    max_count: Annotated[int, typer.Option(min=1, max=16, help="Most pictures of a request.")] = 4,
    max_waiting: Annotated[
        int, typer.Option(min=0, max=500, help="Most requests that wait; further ones are refused.")
    ] = 16,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Serve a page for comparing pictures in the browser.

    It paints a prompt without and with SingDiffusion, with a slider between the two pictures.

    \b
    Example:
      singdiffusion serve --port 7860
    """
    hush(logging.WARNING)  # visitors see a short message when painting fails; the cause is logged here
    from ..web.direct import without_proxies

    with extra("web", "serve"), without_proxies():
        from ..web.hosts import is_loopback
        from ..web.refusals import Escaped
        from ..web.server import Server
    from ..painting.bases import load_model
    from ..plugin import SingDiffusion
    from ..plugin.choice import module_dtype
    from ..web.settings import Limits
    from ..web.studio import Studio, examples_of

    log = logging.StreamHandler()
    log.setFormatter(Escaped("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(log)
    limits = Limits(num_inference_steps=max_steps, side=max_size, count=max_count, waiting=max_waiting)
    alone = is_loopback(host)

    def load() -> Studio:
        pipe = load_model(model, device, dtype, model_config)
        precision = module_dtype(pipe)
        names = _names(model, module, pipe)
        modules = {name: SingDiffusion.from_pretrained(name, torch_dtype=precision) for name in names}
        controls = _controls(model, pipe, control)
        shown = str if alone else bare_name
        return Studio(model, pipe, modules, controls=controls, examples=examples_of(model), limits=limits, names=shown)

    server = Server(load, host, port, root_path)
    try:
        announce(model, server.room.studio.pipe)
        show(f"The page is at {server.url} (Ctrl-C stops it)")
        if not alone:
            say("Other machines can reach it; there is no password.")
        server.wait()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C does not wait for the current step
        server.close()


def _names(model: str, modules: list[str] | None, pipe: Any) -> list[str]:
    """Return the names of the modules to load; by default both embedded ones, or for other models the one that fits.

    Where none can be had, a line on stderr gives the reason, and the page offers flat colors only.

    Raises:
        SingDiffusionError: "none" comes with others.
    """
    from .. import tiny

    if modules is None and model in tiny.MODELS:
        return ["tiny-unet", "tiny"]
    if modules is not None and "none" in modules and len(modules) > 1:
        raise SingDiffusionError("none goes with no other module", setting="module")
    if modules == ["none"]:
        return []
    try:
        return [found for name in modules or ["auto"] if (found := module_for(pipe, name)) is not None]
    except SingDiffusionError as error:
        if modules is not None:
            raise
        say(f"The page has no module: {error}")
        return []


def _controls(model: str, pipe: Any, files: list[Path] | None) -> dict[str, Any]:
    """Return name -> picture for a ControlNet to follow; the embedded one brings its own.

    Raises:
        SingDiffusionError: two files have the same name, or one cannot be used.
    """
    if files is None:
        return own_hints(model) if getattr(pipe, "controlnet", None) is not None else {}
    found: dict[str, Any] = {}
    for file in files:
        if file.name in found:
            raise SingDiffusionError(f"two pictures are named {file.name}; rename one", setting="control")
        found[file.name] = control_image(pipe, file, model)
    return found
