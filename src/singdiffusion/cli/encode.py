"""``singdiffusion encode``"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from . import app
from .common import check_json, console, extra, hush, progress, torch_device, torch_dtype, write_json


@app.command()
def encode(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of pictures with captions (.txt beside them, metadata.jsonl or .csv), .tar shards, a folder that "
            "`datasets` saved, or a data set's hub id."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the shards; one that was begun is gone on with.")],
    base: Annotated[str, typer.Option(help="The base model: tiny, a folder in diffusers' layout, or a hub id.")],
    size: Annotated[
        int | None, typer.Option(min=8, max=8192, help="Height and width in pixels; the base's own by default.")
    ] = None,
    buckets: Annotated[
        bool, typer.Option("--buckets", help="Keep aspect ratios, in buckets of size x size pixels in all.")
    ] = False,
    low_frequency: Annotated[
        int | None, typer.Option(min=1, max=64, help="Keep only K x K DCT coefficients of the latents.", metavar="K")
    ] = None,
    smallest: Annotated[
        int | None, typer.Option(min=1, help="Skip pictures with a shorter side; half of the size by default.")
    ] = None,
    unit_size: Annotated[
        int, typer.Option(min=1, max=100_000, help="Pictures a shard, where the source has none.")
    ] = 2048,
    split: Annotated[str, typer.Option(help="Of a Hugging Face data set.")] = "train",
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Pictures encoded at once.")] = 8,
    decoders: Annotated[int, typer.Option(min=1, max=64, help="Threads that read pictures, beside the VAE.")] = 4,
    dtype: Annotated[str, typer.Option(help="Of the VAE: float32, bfloat16 or float16.")] = "float32",
    device: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, mps, ...; auto: what is fastest here. Under accelerate launch each process takes its own."
        ),
    ] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write the counts here.")] = None,
) -> None:
    """Encode captioned pictures once, for training: latents, token ids, mean greys.

    Example: singdiffusion encode pictures/ shards/ --base tiny

    On several processes: accelerate launch --num_processes 2 -m singdiffusion encode pictures/ shards/ --base MODEL
    """
    from .. import files
    from ..errors import SingDiffusionError

    hush()
    check_json(json)
    from ..data import encode as work
    from ..data.base import Base
    from ..data.manifest import is_done, write_manifest
    from ..data.sources import open_source
    from ..painting.bases import load_model

    with extra("train", "encode"):
        opened = open_source(source, unit_size, split)
    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise SingDiffusionError(f"{out} lies in the source; name a folder of its own")
    files.output_folder(out)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    pipe = load_model(base, torch_dtype(dtype)).to(torch_device(_own(device, world)))
    parts = Base.of(pipe, base)
    options = work.Options(size or _size_of(pipe, base) * parts.scale, buckets, low_frequency, smallest)
    if options.size % parts.scale:
        raise SingDiffusionError(f"--size must be a multiple of {parts.scale} for {base}, not {options.size}")
    if low_frequency is not None and low_frequency * parts.scale > options.size // 2:
        raise SingDiffusionError(f"--low-frequency {low_frequency} is too many for pictures of {options.size} pixels")
    with progress("Encoding shards", len(opened.units()) // world + 1) as advance:
        work.encode(
            opened,
            out,
            parts,
            options,
            batch=batch,
            decoders=decoders,
            rank=rank,
            world=world,
            advance=lambda _: advance(),
        )
    if world > 1 and not all(is_done(opened, out, unit) for unit in opened.units()):
        typer.echo(f"process {rank} of {world} is done; the last one writes the manifest")
        return
    found = write_manifest(opened, out)
    skipped, noted = sum(found["skipped"].values()), sum(found["notes"].values())
    write_json(json, {key: found[key] for key in ("count", "skipped", "notes")})
    for reason, count in sorted(found["skipped"].items(), key=lambda row: -row[1]):
        console.print(f"skipped {count}: {reason}")
    if not found["count"]:
        raise SingDiffusionError(f"no picture of {source} could be used; {out / 'skipped.jsonl'} says why, one by one")
    shards = len(found["shards"])
    notes = f", {noted} notes on pictures that are used" if noted else ""
    typer.echo(
        f"{found['count']} pictures in {shards} shard{'s' * (shards != 1)} in {out}; {skipped} skipped{notes} (skipped.jsonl)"
    )


def _own(device: str, world: int) -> str:
    """The device of this process, one of several or alone."""
    import torch

    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = "cpu" if found is None else found.type
    several = world > 1 and device in ("cuda", "xpu")
    return f"{device}:{os.environ.get('LOCAL_RANK', '0')}" if several else device


def _size_of(pipe: Any, base: str) -> int:
    """Height and width of the latents that a base was made for."""
    from ..errors import SingDiffusionError

    denoisers = (getattr(pipe, name, None) for name in ("unet", "transformer"))
    sizes = [denoiser.config.get("sample_size") for denoiser in denoisers if denoiser is not None]
    if not sizes or not isinstance(sizes[0], int):
        raise SingDiffusionError(f"{base} does not say what size its pictures have: say --size PIXELS")
    return sizes[0]
