"""The folder that ``encode`` writes: a file per shard, and ``manifest.json``, which sums them up."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, ConfigDict, Field
from safetensors import safe_open
from torch import Tensor
from typing_extensions import NotRequired, TypedDict  # pydantic takes typing's only from Python 3.12 on

from ..core.dct import low_frequencies
from ..errors import OBEYED, SingDiffusionError, one_line
from ..files import write_whole
from ..reading import parse_json, read_json
from .checks import sha256_of
from .items import Source

FORMAT = 2  # of a folder of shards; in 1 every picture had one caption
MANIFEST, SETTINGS, SKIPPED = "manifest.json", "encode.json", "skipped.jsonl"
STATISTICS = 4  # lowest frequencies per side whose mean, variance and covariance between channels the manifest holds
MOST_CHANNELS = 1024  # of latents

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Group = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$")]
"""Height and width of pictures, such as "512x768"."""


def _plain_name(name: Any) -> str:
    if not isinstance(name, str) or "\0" in name or Path(name).name != name or name in ("", ".."):
        raise ValueError(f"{name!r:.60} is not the plain name of a file")
    return name


def _text(text: Any) -> str:
    if not isinstance(text, str):  # unlike pydantic's, it may hold lone surrogates: of names that are not UTF-8
        raise ValueError(f"{text!r:.60} is not text")
    return text


class BaseSettings(TypedDict):
    """What ``Base.identity`` returns."""

    name: Annotated[Any, AfterValidator(_text)]
    latent_channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
    vae_scaling_factor: float
    vae_shift_factor: float | None
    vae_fingerprint: NotRequired[list[float]]
    vae_scale: Annotated[int, Field(ge=1, le=1024)]
    text_width: Annotated[int, Field(ge=0, le=2**20)]
    text_fingerprint: list[float]
    tokens: Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=1, max_length=8)]


class OptionSettings(TypedDict):
    """The fields of ``encode.Options``."""

    size: Annotated[int, Field(ge=1, le=2**16)]
    buckets: bool
    low_frequency: Annotated[int, Field(ge=1, le=1024)] | None
    smallest: Positive | None


class Settings(TypedDict):
    """The content of ``encode.json``."""

    format: NotRequired[Positive]
    options: OptionSettings
    base: BaseSettings


class ShardEntry(TypedDict):
    """What the manifest states about a shard; its name is a plain one, so that no manifest leads out of its folder."""

    file: Annotated[Any, AfterValidator(_plain_name)]
    count: Count
    captions: NotRequired[Count]
    bytes: Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    groups: dict[Group, Positive]


class Manifest(Settings):
    """The content of ``manifest.json``, as far as training reads it."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    count: Count
    captions: NotRequired[Count]
    shards: list[ShardEntry]


class ShardMetadata(TypedDict):
    """The metadata of a shard."""

    source: str
    count: Count
    captions: NotRequired[Count]
    skipped: list[tuple[Any, Annotated[Any, AfterValidator(_text)]]]
    notes: list[tuple[Any, Annotated[Any, AfterValidator(_text)]]]
    keys: dict[Group, list[Any]]
    shapes: dict[Group, list[Positive]]
    sums: list[Any]
    products: list[Any]


def shard_file(folder: Path, unit: str) -> Path:
    """Return the path of a unit's shard."""
    return folder / f"shard-{unit}.safetensors"


def is_done(source: Source, folder: Path, unit: str) -> bool:
    """Return whether a unit's shard exists and was made from the source as it is now."""
    file = shard_file(folder, unit)
    return os.path.lexists(file) and read_metadata(file)["source"] == source.digest(unit)


def read_metadata(file: Path) -> dict[str, Any]:
    """Return the metadata of a shard: the entries of ``ShardMetadata``.

    Raises:
        SingDiffusionError: the file is not a shard, or is damaged.
    """
    try:
        if not file.is_file():  # a pipe would be waited for
            raise SingDiffusionError("it is not a file")
        with safe_open(file, "pt") as opened:
            content = (opened.metadata() or {}).get("singdiffusion", "")
        metadata = dict(parse_json(content, "its metadata", ShardMetadata))
        return {"captions": metadata["count"]} | metadata  # shards of format 1 do not count captions
    except Exception as error:  # safetensors raises its own kind, and others
        raise damaged(file, one_line(error, 120)) from error


def damaged(file: Path, why: str) -> SingDiffusionError:
    """Return the error for a shard that cannot be used."""
    return SingDiffusionError(f"{file} cannot be used: {why}; delete it and encode again")


def write_manifest(source: Source, folder: Path) -> dict[str, Any]:
    """Write ``manifest.json`` and ``skipped.jsonl``, which has a line per picture that was left out or changed, with the reason.

    Returns:
        The manifest.

    Raises:
        SingDiffusionError: a shard is missing, out of date or damaged.
    """
    missing = [shard_file(folder, unit).name for unit in source.units() if not is_done(source, folder, unit)]
    if missing:
        raise SingDiffusionError(
            f"{len(missing)} shards are missing or out of date, among them {missing[0]}; run encode again to resume"
        )
    shards, lines = [], []
    reasons: dict[str, Counter[str]] = {"skipped": Counter(), "notes": Counter()}
    settings = dict(read_json(folder / SETTINGS, Settings))
    sums = LatentSums(settings["base"]["latent_channels"])
    for unit in source.units():
        file = shard_file(folder, unit)
        metadata = read_metadata(file)
        shards.append(_entry(file, metadata))
        try:
            sums.add(metadata["sums"], metadata["products"])
        except (TypeError, ValueError, RuntimeError) as error:  # those of torch, about lists of other shapes
            raise damaged(file, one_line(error, 120)) from error
        for what, counts in reasons.items():
            for key, reason in metadata[what]:
                counts[reason.split(":")[0]] += 1  # after the colon come a picture's own numbers
                lines.append(_line({"key": key, what.removesuffix("s"): reason, "shard": file.name}))
    manifest = settings | {
        "count": sum(shard["count"] for shard in shards),
        "captions": sum(shard["captions"] for shard in shards),
        "skipped": dict(reasons["skipped"]),
        "notes": dict(reasons["notes"]),
        **sums.statistics(),
        "shards": shards,
    }
    write_whole(folder / SKIPPED, "".join(lines))
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def _line(content: dict[str, Any]) -> str:
    """Return a line of JSON in which what a terminal would obey, and bytes of names that are not UTF-8, are escaped."""
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(content, ensure_ascii=False)) + "\n"


def _entry(file: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest's entry of a shard."""
    return {
        "file": file.name,
        "count": metadata["count"],
        "captions": metadata["captions"],
        "bytes": os.path.getsize(file),
        "sha256": sha256_of(file),
        "groups": {name: len(keys) for name, keys in metadata["keys"].items()},
        "shapes": metadata["shapes"],
    }


class LatentSums:
    """Sums over latents' lowest DCT coefficients, from which mean, variance and covariance follow; sums of shards add up.

    Args:
        channels: C of the latents.

    Attributes:
        sums: (count, sum, sum of squares), float64 (3, C, STATISTICS, STATISTICS).
        products: sums of products between channels, float64 (STATISTICS, STATISTICS, C, C).
    """

    def __init__(self, channels: int):
        self.sums = torch.zeros(3, channels, STATISTICS, STATISTICS, dtype=torch.float64)
        self.products = torch.zeros(STATISTICS, STATISTICS, channels, channels, dtype=torch.float64)

    def add(self, sums: Any, products: Any) -> None:
        """Add the sums of a shard: nested lists or tensors.

        Raises:
            ValueError: they are of other shapes; torch raises others where they are no numbers.
        """
        for whole, part in ((self.sums, sums), (self.products, products)):
            added = torch.as_tensor(part, dtype=torch.float64)
            if added.shape != whole.shape:
                raise ValueError(f"sums of shape {tuple(added.shape)}, not {tuple(whole.shape)}")
            whole += added

    def add_latents(self, latents: Tensor) -> None:
        """Add latents (B, C, H, W)."""
        low = low_frequencies(latents.double(), min(STATISTICS, *latents.shape[-2:]))
        channels, height, width = low.shape[1:]
        padded = low.new_zeros(len(low), channels, STATISTICS, STATISTICS)
        padded[..., :height, :width] = low
        products = low.new_zeros(STATISTICS, STATISTICS, channels, channels)
        products[:height, :width] = torch.einsum("nchw,ndhw->hwcd", low, low)
        count = torch.full_like(padded[0], float(len(low)))
        self.add(torch.stack([count, padded.sum(0), padded.square().sum(0)]), products)

    def statistics(self) -> dict[str, Any]:
        """Return mean and variance (C, STATISTICS, STATISTICS), and covariance between channels (STATISTICS, STATISTICS, C, C)."""
        count, total, squares = self.sums
        count = count.clamp(min=1)
        mean = total / count
        covariance = self.products / count[0, ..., None, None] - torch.einsum("chw,dhw->hwcd", mean, mean)
        return {
            "low_frequency_mean": mean.tolist(),
            "low_frequency_variance": (squares / count - mean.square()).clamp(min=0).tolist(),
            "low_frequency_covariance": covariance.tolist(),
        }
