"""``singdiffusion convert``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import hush, torch_dtype


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A module's folder as SingDiffusion's authors (config.json + .bin), OneMoreStep (oms_module/) or this "
            "package write it, or a .safetensors file in the original key layout."
        ),
    ],
    target: Annotated[Path, typer.Argument(help="A folder; or a name that ends in .safetensors, for a single file.")],
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the model with whose latents and text encoder the module was trained."),
    ] = None,
    bring_text: Annotated[
        bool,
        typer.Option("--bring-text", help="Put that model's text encoder into the module, for bases with another."),
    ] = False,
    unet_config: Annotated[
        Path | None, typer.Option(help="config.json of the U-Net, for a single file that carries none.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; by default what the weights are.")
    ] = None,
) -> None:
    """Make a published module into one of ours, or one of ours into a single file for other tools.

    Example: singdiffusion convert SingDiffusion/ sing-sd15/ --base stable-diffusion-v1-5/ --bring-text
    """
    hush()
    from ..published.convert import convert as make

    config = make(
        source,
        target,
        base=base,
        bring_text=bring_text,
        unet_config=unet_config,
        torch_dtype=None if dtype is None else torch_dtype(dtype),
    )
    typer.echo(f"{target}  (latents of {config.latent_channels} channels, text of width {config.text_width})")
