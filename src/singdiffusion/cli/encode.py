"""``singdiffusion encode``"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SingDiffusionError
from . import app
from .common import announce, check_json, extra, hush, progress, say, show, write_json

if TYPE_CHECKING:
    from ..data.base import Base
    from ..data.encode import Options


@app.command()
def encode(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of pictures with captions (.txt files of the same names, metadata.jsonl or .csv), .tar shards, a "
            "folder that `datasets` saved, or a data set's hub id."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the shards; work that was begun there is resumed.")],
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
        int, typer.Option(min=1, max=100_000, help="Pictures per shard, for sources without shards.")
    ] = 2048,
    split: Annotated[str, typer.Option(help="Split of a Hugging Face data set.")] = "train",
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Pictures that are encoded at once.")] = 8,
    decoders: Annotated[int, typer.Option(min=1, max=64, help="Threads that read pictures for the VAE.")] = 4,
    dtype: Annotated[
        str,
        typer.Option(
            help="Of the VAE: float32, bfloat16 or float16; auto is float32 unless the VAE is safe in float16."
        ),
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, mps, ...; auto is the fastest one here. Under accelerate launch each process takes its own."
        ),
    ] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write the counts as JSON into this file.")] = None,
) -> None:
    """Encode captioned pictures for training.

    Writes latents, token ids and mean luma, once for any number of trainings.

    \b
    Example:
      singdiffusion encode pictures/ shards/ --base tiny

    \b
    On several processes:
      accelerate launch --num_processes 2 -m \\
        singdiffusion encode pictures/ shards/ --base MODEL
    """
    from .. import files

    hush()
    check_json(json)
    rank, world = _share()
    from ..data import encode as work
    from ..data.base import Base
    from ..data.manifest import is_done, write_manifest
    from ..data.sources import open_source

    with extra("train", "encode"):
        opened = open_source(source, unit_size, split)
    if os.path.isdir(source) and out.resolve().is_relative_to(Path(source).resolve()):
        raise SingDiffusionError(f"{out} lies in the source; name a folder outside it")
    files.output_folder(out)
    with work.alone(out, rank, world):
        pipe = _load(base, device, dtype, world)
        parts = Base.of(pipe, base)
        options = work.Options(size or _size_of(pipe, base) * parts.scale, buckets, low_frequency, smallest)
        _require_fitting(options, parts)
        announce(f"the VAE of {base}", pipe.vae)
        with progress("Encoding shards", len(opened.units()) // world + 1, shown=rank == 0) as advance:
            work.encode(
                opened, out, parts, options,
                batch=batch, decoders=decoders, rank=rank, world=world, advance=lambda _: advance(),
            )  # fmt: skip
        if world > 1 and not all(is_done(opened, out, unit) for unit in opened.units()):
            show(f"process {rank} of {world} is done; the last one writes the manifest")
            return
        _report(write_manifest(opened, out), source, out, json)


def _require_fitting(options: Options, base: Base) -> None:
    """Check that the options fit the base.

    Raises:
        SingDiffusionError: they do not.
    """
    if options.size % base.scale:
        raise SingDiffusionError(
            f"the size must be a multiple of {base.scale} for {base.name}, not {options.size}", setting="size"
        )
    if options.low_frequency is not None and options.low_frequency * base.scale > options.size // 2:
        raise SingDiffusionError(
            f"--low-frequency {options.low_frequency} is too many for pictures of {options.size} pixels"
        )


def _share() -> tuple[int, int]:
    """Return the number of this process and how many there are, as ``accelerate launch`` and ``torchrun`` set them.

    Raises:
        SingDiffusionError: they are set to something else.
    """
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise SingDiffusionError(
            "the environment variables RANK and WORLD_SIZE must be whole numbers, RANK below WORLD_SIZE, "
            f"not {rank!r:.40} and {world!r:.40}"
        )
    return int(rank), int(world)


def _report(found: dict[str, Any], source: str, out: Path, json: Path | None) -> None:
    """Print and write what the manifest counts.

    Raises:
        SingDiffusionError: no picture could be used.
    """
    skipped, noted = sum(found["skipped"].values()), sum(found["notes"].values())
    write_json(json, {key: found[key] for key in ("count", "captions", "skipped", "notes")})
    for reason, count in sorted(found["skipped"].items(), key=lambda row: -row[1]):
        say(f"skipped {count}: {reason}")
    if not found["count"]:
        raise SingDiffusionError(f"no picture of {source} could be used; the reasons are in {out / 'skipped.jsonl'}")
    shards = len(found["shards"])
    notes = f", {noted} notes on pictures that are used" if noted else ""
    captions = f" with {found['captions']} captions" if found["captions"] > found["count"] else ""
    where = f"{shards} shard{'s' * (shards != 1)} in {out}"
    show(f"{found['count']} pictures{captions} in {where}; {skipped} skipped{notes} (skipped.jsonl)")


def _load(base: str, device: str, dtype: str, world: int) -> Any:
    """Load the base onto the device of this process, one of several or alone, with a VAE that does not overflow."""
    from ..painting.bases import load_model
    from ..painting.devices import AUTO, choose_device, encoding_dtype

    place = choose_device(device)
    if world > 1 and place.type in ("cuda", "xpu") and place.index is None:
        place = choose_device(f"{place.type}:{os.environ.get('LOCAL_RANK', '0')}")
    pipe = load_model(base, place, dtype)
    if dtype == AUTO and getattr(pipe, "vae", None) is not None:
        pipe.vae.to(encoding_dtype(pipe.vae.dtype, pipe.vae))
    return pipe


def _size_of(pipe: Any, base: str) -> int:
    """Return height and width of the latents that a base was made for.

    Raises:
        SingDiffusionError: its configuration does not name one size.
    """
    denoisers = (getattr(pipe, name, None) for name in ("unet", "transformer"))
    sizes = [denoiser.config.get("sample_size") for denoiser in denoisers if denoiser is not None]
    if not sizes or not isinstance(sizes[0], int):
        raise SingDiffusionError(f"{base} does not name the size of its pictures; give one in pixels", setting="size")
    return sizes[0]
