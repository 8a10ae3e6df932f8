"""The folder that ``encode`` writes: a file per shard, and ``manifest.json``, which sums them up."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..core.dct import low_frequencies
from ..errors import SingDiffusionError, one_line
from ..files import write_whole
from ..reading import read_json
from .items import Source

FORMAT = 2  # of a folder of shards; in 1 every picture had one caption
MANIFEST, SETTINGS, SKIPPED = "manifest.json", "encode.json", "skipped.jsonl"
STATISTICS = 4  # lowest frequencies per side whose mean, variance and covariance between channels the manifest holds
METADATA = ("source", "count", "captions", "skipped", "notes", "keys", "shapes", "sums", "products")  # of a shard


def shard_file(folder: Path, unit: str) -> Path:
    """Return the path of a unit's shard."""
    return folder / f"shard-{unit}.safetensors"


def is_done(source: Source, folder: Path, unit: str) -> bool:
    """Return whether a unit's shard exists and was made from the source as it is now."""
    file = shard_file(folder, unit)
    return file.exists() and read_metadata(file)["source"] == source.digest(unit)


def read_metadata(file: Path) -> dict[str, Any]:
    """Return the metadata of a shard: the entries of ``METADATA``.

    Raises:
        SingDiffusionError: the file is not a shard, or is damaged.
    """
    try:
        with safe_open(file, "pt") as opened:
            metadata = json.loads(opened.metadata()["singdiffusion"])
        captions = {"captions": metadata["count"]}  # of shards of format 1
        return {name: (captions | metadata)[name] for name in METADATA}
    except Exception as error:  # safetensors raises its own kind, and others
        line = one_line(error, 120)
        raise SingDiffusionError(f"{file} is damaged or not a shard ({line}); delete it and encode again") from error


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
    settings = read_json(folder / SETTINGS)
    sums = LatentSums(settings["base"]["latent_channels"])
    for unit in source.units():
        file = shard_file(folder, unit)
        metadata = read_metadata(file)
        shards.append(_entry(file, metadata))
        sums.add(metadata["sums"], metadata["products"])
        for what, counts in reasons.items():
            for key, reason in metadata[what]:
                counts[reason.split(":")[0]] += 1  # after the colon come a picture's own numbers
                line = {"key": key, what.removesuffix("s"): reason, "shard": file.name}
                lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    manifest = settings | {
        "count": sum(shard["count"] for shard in shards),
        "captions": sum(shard["captions"] for shard in shards),
        "skipped": dict(reasons["skipped"]),
        "notes": dict(reasons["notes"]),
        **sums.statistics(),
        "shards": shards,
    }
    # the name of a file may hold bytes that are not UTF-8; Python's escapes of these are also those of JSON
    write_whole(folder / SKIPPED, "".join(lines).encode("utf-8", "backslashreplace"))
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def _entry(file: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest's entry of a shard."""
    return {
        "file": file.name,
        "count": metadata["count"],
        "captions": metadata["captions"],
        "bytes": os.path.getsize(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
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
        """Add the sums of a shard: nested lists or tensors."""
        self.sums += torch.as_tensor(sums, dtype=torch.float64)
        self.products += torch.as_tensor(products, dtype=torch.float64)

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
