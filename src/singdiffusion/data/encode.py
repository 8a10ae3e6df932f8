"""Captioned pictures, once, to what training reads: latents (or their lowest frequencies), token ids, mean greys.

Each unit of the source becomes one file ``shard-UNIT.safetensors``, written whole or not at all; a run that was interrupted, or
another process beside it, skips those that are there. ``manifest.json``, written at the end, sums them up.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..core.dct import low_frequencies
from ..errors import SingDiffusionError
from ..files import write_whole
from ..modules.text import fingerprint, same_fingerprint
from ..plugin.vae import mean_latents
from . import pictures
from .sources import Item, Skipped, Source

FORMAT = 1
MANIFEST, BEGUN = "manifest.json", "encode.json"
STATISTICS = 4  # frequencies a side of which mean, variance and the channels' covariance are kept in the manifest
LUMA = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Options:
    """What decides the files' content; a folder holds files of one set of options only.

    Attributes:
        size: of the pictures, in pixels.
        buckets: keep aspect ratios within buckets of size x size pixels in all; else crop to a square in the middle.
        low_frequency: keep only this many DCT coefficients a side of the latents; None: the latents.
        smallest: pictures with a shorter side than this are skipped; None: half of ``size``.
    """

    size: int
    buckets: bool = False
    low_frequency: int | None = None
    smallest: int | None = None


@dataclass
class Base:
    """The parts of a base model that make latents and tokens."""

    name: str
    vae: Any
    tokenizers: list[Any]
    text_encoders: list[Any]

    @classmethod
    def of(cls, pipe: Any, name: str) -> Base:
        """The parts of a diffusers pipeline."""
        parts = lambda kind: [part for n in (kind, f"{kind}_2") if (part := getattr(pipe, n, None)) is not None]  # noqa: E731
        if getattr(pipe, "vae", None) is None or not parts("tokenizer"):
            raise SingDiffusionError(f"{name} has no VAE or no tokenizer, and encoding needs both")
        return cls(name, pipe.vae.eval(), parts("tokenizer"), parts("text_encoder"))

    def identity(self) -> dict[str, Any]:
        """What says that latents and tokens of two runs belong together."""
        config = self.vae.config
        return {
            "name": self.name,
            "latent_channels": config.latent_channels,
            "vae_scaling_factor": float(config.scaling_factor),
            "vae_shift_factor": config.get("shift_factor"),
            "vae_fingerprint": self._vae_fingerprint(),
            "vae_scale": self.scale,
            "text_width": sum(encoder.config.hidden_size for encoder in self.text_encoders),
            "text_fingerprint": [v for encoder in self.text_encoders for v in fingerprint(encoder)],
            "tokens": [min(t.model_max_length, 512) for t in self.tokenizers],
        }

    @property
    def scale(self) -> int:
        """Pixels a latent: 8 for Stable Diffusion."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latents(self, rgb: Tensor) -> Tensor:
        """Posterior means of uint8 (B, H, W, 3), shifted and scaled as the base does it: float32 (B, C, h, w)."""
        found = mean_latents(rgb.permute(0, 3, 1, 2).float() / 127.5 - 1, self.vae)
        if not torch.isfinite(found).all():
            raise SingDiffusionError("the VAE gave NaN or infinite latents; encode in float32 or bfloat16")
        return found

    def tokens(self, captions: list[str]) -> list[Tensor]:
        """Token ids, one tensor int32 (B, L) a tokenizer, padded and cut to its length."""
        return [
            tokenizer(
                captions, padding="max_length", max_length=min(tokenizer.model_max_length, 512), truncation=True,
                return_tensors="pt",
            ).input_ids.int()
            for tokenizer in self.tokenizers
        ]  # fmt: skip

    def _vae_fingerprint(self) -> list[float]:
        side = 4 * self.scale
        ramp = torch.arange(side * side * 3).remainder(251).reshape(1, side, side, 3).to(torch.uint8)
        return [round(float(v), 4) for v in self.latents(ramp).flatten()[:16]]


@dataclass
class _Group:
    """What is gathered of one bucket."""

    latents: list[Tensor] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    greys: list[float] = field(default_factory=list)


@dataclass
class Counts:
    """How a unit, or all of them, went."""

    kept: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def encode(
    source: Source,
    out: Path,
    base: Base,
    options: Options,
    *,
    batch: int = 8,
    decoders: int = 1,
    rank: int = 0,
    world: int = 1,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Encode the units of a source that fall to this process and are not there yet, or have changed since.

    Args:
        out: folder of the shards; made by the caller.
        batch: pictures the VAE encodes at once.
        decoders: threads that read pictures beside the VAE.
        rank, world: this process and how many there are; unit i is done by process i mod world.
        advance: called with the number of pictures done.

    Raises:
        SingDiffusionError: ``out`` was begun with other options or another base.
    """
    begun(out, base, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on large and odd files, of which skipped.jsonl says what matters
        for i, unit in enumerate(source.units()):
            if i % world != rank:
                continue
            if not is_done(source, out, unit):
                _encode_unit(source, out, unit, base, options, batch, decoders)
            if advance is not None:
                advance(i)


def begun(out: Path, base: Base, options: Options) -> None:
    """Write down what the folder is made with, or hold it against what it was begun with."""
    what = {"format": FORMAT, "options": asdict(options), "base": base.identity()}
    file = out / BEGUN
    if not file.exists():
        write_whole(file, json.dumps(what, indent=2) + "\n")
        return
    before = json.loads(file.read_text())
    for part in ("options", "base"):
        for key, value in what[part].items():
            theirs = before.get(part, {}).get(key)
            if not _same(key, theirs, value) and not (part == "base" and key == "name"):
                raise SingDiffusionError(
                    f"{out} was begun with another {part.removesuffix('s')}: {key} {theirs}, not {value}; name an empty folder"
                )


def _same(key: str, theirs: Any, ours: Any) -> bool:
    """Fingerprints are measured: another machine, device or dtype moves them a little."""
    if key.endswith("fingerprint") and theirs is not None:
        return same_fingerprint(ours, theirs)
    return theirs == ours


def is_done(source: Source, out: Path, unit: str) -> bool:
    """Whether a unit's shard is there and is of the source as it is now."""
    file = _file(out, unit)
    return file.exists() and read_metadata(file).get("source") == source.digest(unit)


def _file(out: Path, unit: str) -> Path:
    return out / f"shard-{unit}.safetensors"


def _encode_unit(source: Source, out: Path, unit: str, base: Base, options: Options, batch: int, decoders: int) -> None:
    digest = source.digest(unit)
    counts, groups = Counts(), {}
    choices = pictures.buckets(options.size) if options.buckets else [(options.size, options.size)]
    waiting: dict[tuple[int, int], list[tuple[np.ndarray, Item]]] = {}
    read = lambda item: _picture(item, options, choices)  # noqa: E731
    for item, found in _ahead(source.items(unit), read, decoders, 4 * decoders + batch):
        if isinstance(found, str):
            counts.skipped.append((item.key, found))
            continue
        shape, pixels, notes = found
        counts.kept += 1
        counts.notes += [(item.key, note) for note in (*item.notes, *notes)]  # type: ignore[union-attr]
        row = waiting.setdefault(shape, [])
        row.append((pixels, item))  # type: ignore[arg-type]
        if len(row) == batch:
            _flush(base, groups.setdefault(shape, _Group()), row)
    for shape, row in waiting.items():
        if row:
            _flush(base, groups.setdefault(shape, _Group()), row)
    write_whole(_file(out, unit), _packed(groups, counts, base, options, digest))


def _ahead(items: Iterable[Any], work: Callable[[Any], Any], threads: int, depth: int) -> Iterator[tuple[Any, Any]]:
    """(item, work(item)) in order, up to ``depth`` of them worked on ahead by threads."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Any, Future]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= depth:
                first, done = waiting.popleft()
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()


def _picture(
    item: Item | Skipped, options: Options, choices: list[tuple[int, int]]
) -> tuple[tuple[int, int], np.ndarray, tuple[str, ...]] | str:
    """(bucket, pixels, notes) of a picture, or why it cannot be used."""
    if isinstance(item, Skipped):
        return item.reason
    try:
        picture, notes = pictures.load(
            item.picture, options.smallest or max(1, options.size // 2), max(map(max, choices))
        )
    except pictures.Unusable as reason:
        return str(reason)
    shape = pictures.nearest_bucket(picture, choices)
    return shape, pictures.fit(picture, *shape), notes


def _flush(base: Base, group: _Group, row: list[tuple[np.ndarray, Item]]) -> None:
    rgb = torch.from_numpy(np.stack([pixels for pixels, _ in row]))
    group.latents.append(base.latents(rgb))
    group.greys += (rgb.float() @ LUMA).mean((1, 2)).tolist()
    group.captions += [item.caption for _, item in row]
    group.keys += [item.key for _, item in row]
    row.clear()


def _packed(groups: dict[tuple[int, int], _Group], counts: Counts, base: Base, options: Options, digest: str) -> bytes:
    """The bytes of a shard: tensors NAME.HEIGHTxWIDTH, and what else is known of it as JSON in its metadata."""
    tensors: dict[str, Tensor] = {}
    told: dict[str, Any] = {
        "source": digest,
        "count": counts.kept,
        "skipped": counts.skipped,
        "notes": counts.notes,
        "keys": {},
    }
    channels = base.vae.config.latent_channels
    sums = torch.zeros(3, channels, STATISTICS, STATISTICS, dtype=torch.float64)
    products = torch.zeros(STATISTICS, STATISTICS, channels, channels, dtype=torch.float64)
    for (height, width), group in sorted(groups.items()):
        name = f"{height}x{width}"
        latents = torch.cat(group.latents)
        low = low_frequencies(latents.double(), min(STATISTICS, *latents.shape[-2:]))
        sums += _sums(low)
        products[: low.shape[-2], : low.shape[-1]] += torch.einsum("nchw,ndhw->hwcd", low, low)
        if options.low_frequency is not None:
            latents = low_frequencies(latents, options.low_frequency)
        tensors[f"latents.{name}"] = latents.half().contiguous()
        for i, ids in enumerate(base.tokens(group.captions)):
            tensors[f"tokens{i or ''}.{name}"] = ids
        tensors[f"grey.{name}"] = torch.tensor(group.greys)
        told["keys"][name] = group.keys
        told.setdefault("shapes", {})[name] = list(latents.shape[1:])
    told |= {"sums": sums.tolist(), "products": products.tolist()}
    return save(tensors or {"empty": torch.zeros(1)}, {"singdiffusion": json.dumps(told)})


def _sums(low: Tensor) -> Tensor:
    """(count, sum, sum of squares) of the lowest DCT coefficients, each (C, STATISTICS, STATISTICS)."""
    padded = torch.zeros(*low.shape[:2], STATISTICS, STATISTICS, dtype=torch.float64)
    padded[..., : low.shape[-2], : low.shape[-1]] = low
    count = torch.full(padded.shape[1:], float(len(low)), dtype=torch.float64)
    return torch.stack([count, padded.sum(0), padded.square().sum(0)])


def read_metadata(file: Path) -> dict[str, Any]:
    """What a shard says of itself.

    Raises:
        SingDiffusionError: it is no shard, or damaged.
    """
    try:
        with safe_open(file, "pt") as opened:
            return json.loads(opened.metadata()["singdiffusion"])
    except Exception as error:  # safetensors raises its own kind, and others
        raise SingDiffusionError(f"{file} is damaged or no shard ({error}); delete it and encode again") from error


def write_manifest(source: Source, out: Path) -> dict[str, Any]:
    """Sum up the shards, when all are there: ``manifest.json``, and ``skipped.jsonl`` with each picture that was left out and why.

    Raises:
        SingDiffusionError: a unit is missing or out of date, or a shard is damaged.
    """
    files = [_file(out, unit) for unit in source.units()]
    missing = [_file(out, unit).name for unit in source.units() if not is_done(source, out, unit)]
    if missing:
        raise SingDiffusionError(
            f"{len(missing)} shards are not there yet or out of date, {missing[0]} for one; encode again to go on"
        )
    begun_with = json.loads((out / BEGUN).read_text())
    shards, reasons, lines = [], {}, []
    sums, products, begun_before = None, 0.0, False
    for file in files:
        told = read_metadata(file)
        part = torch.tensor(told["sums"], dtype=torch.float64)
        sums = part if sums is None else sums + part
        if "products" in told:
            products = products + torch.tensor(told["products"], dtype=torch.float64)
        else:  # a shard from before they were kept
            begun_before = True
        shards.append(
            {
                "file": file.name,
                "count": told["count"],
                "bytes": os.path.getsize(file),
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "groups": {name: len(keys) for name, keys in told["keys"].items()},
                "shapes": told.get("shapes", {}),
            }
        )
        for what in ("skipped", "notes"):
            for key, reason in told[what]:
                kind = reason.split(":")[0]
                reasons.setdefault(what, {}).setdefault(kind, 0)
                reasons[what][kind] += 1
                lines.append(
                    json.dumps({"key": key, what.removesuffix("s"): reason, "shard": file.name}, ensure_ascii=False)
                )
    count, total, squares = sums  # type: ignore[misc]
    safe = count.clamp(min=1)
    mean = total / safe
    manifest = begun_with | {
        "count": sum(shard["count"] for shard in shards),
        "skipped": reasons.get("skipped", {}),
        "notes": reasons.get("notes", {}),
        "low_frequency_mean": mean.tolist(),
        "low_frequency_variance": (squares / safe - mean.square()).clamp(min=0).tolist(),
        "shards": shards,
    }
    if not begun_before:
        covariance = products / safe[0, ..., None, None] - torch.einsum("chw,dhw->hwcd", mean, mean)
        manifest["low_frequency_covariance"] = covariance.tolist()
    write_whole(out / "skipped.jsonl", "".join(line + "\n" for line in lines))
    write_whole(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest
