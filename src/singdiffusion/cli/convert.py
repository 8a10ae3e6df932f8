"""``singdiffusion convert``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import hush, show


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A module's folder or hub id, in the layout of SingDiffusion's authors (config.json and weights), of OneMoreStep "
            "(oms_module/) or of this package; or a .safetensors file in the original key layout."
        ),
    ],
    target: Annotated[str, typer.Argument(help="A folder, or a name that ends in .safetensors for a single file.")],
    base: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of the model whose latents and text encoder the module was trained with; by default Stable "
            "Diffusion 1.5 for the authors' layout, and what OneMoreStep's names."
        ),
    ] = None,
    bring_text: Annotated[
        bool | None,
        typer.Option(
            "--bring-text/--no-text",
            help="Write the text encoders into the module, for use with models that have others; or leave them out. By default "
            "those that are the module's own are kept.",
        ),
    ] = None,
    unet_config: Annotated[
        Path | None, typer.Option(help="config.json of the U-Net, for a single file without one inside.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; that of the weights by default.")
    ] = None,
) -> None:
    """Convert a module from or to other tools' formats.

    From any layout into a folder of this package or into a single file. Other commands also read a published module as it is.

    \b
    Example:
      singdiffusion convert SingDiffusion/ sing-sd15/ \\
        --base stable-diffusion-v1-5/ --bring-text
    """
    hush()
    import torch

    from ..painting.devices import choose_dtype
    from ..published.convert import convert as make

    config = make(
        source,
        target,
        base=base,
        bring_text=bring_text,
        unet_config=unet_config,
        torch_dtype=None if dtype is None else choose_dtype(dtype, torch.device("cpu")),
    )
    show(f"{target}  (latents of {config.latent_channels} channels, text of width {config.text_width})")
