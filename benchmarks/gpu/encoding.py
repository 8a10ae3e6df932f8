"""Encoding: the VAE's encoder, ``singdiffusion encode`` from JPEG files to a shard, and the text encoders."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from singdiffusion.data.encode import Base, Options, encode
from singdiffusion.data.sources import open_source
from singdiffusion.plugin.vae import mean_latents

from .bench import Bench, Rows
from .cost_model import TOKENS
from .networks import Model, text_encoders, tokenizer, vae
from .timing import Row, in_turn, rates, seconds

FLOAT32 = "float32, TF32 convolutions (torch's default)"
ARITHMETIC = {  # name -> dtype, TF32 allowed, channels last
    "bf16": (torch.bfloat16, True, False),
    "bf16, channels last": (torch.bfloat16, True, True),
    FLOAT32: (torch.float32, True, False),
    "float32": (torch.float32, False, False),
}
TEXT_NAMES = ("CLIP ViT-L/14", "OpenCLIP ViT-bigG/14")


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in float32 convolutions inside the block; torch allows it by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def vae_alone(bench: Bench, model: Model, kind: str, batch: int) -> Row:
    """Measure pictures per second through the VAE's encoder, with pixels and latents on the device."""
    dtype, allowed, channels_last = ARITHMETIC[kind]
    encoder = vae(model, dtype, bench.device)
    encoder.decoder = None
    if channels_last:
        encoder.to(memory_format=torch.channels_last)
    pixels = torch.rand(batch, 3, model.pixels, model.pixels, device=bench.device) * 2 - 1
    with tf32(allowed):
        took = in_turn({"encode": lambda: mean_latents(pixels, encoder)}, bench.budget(2.0), warm_up=2)["encode"]
    return {"base": model.name, "what": "VAE encoder", "kind": kind, "batch": batch, "rate": rates(batch, took)}


def whole_encode(bench: Bench, model: Model, kind: str, batch: int, decoders: int, count: int) -> Row:
    """Measure pictures per second of ``singdiffusion encode``: JPEG files to a shard of latents, tokens and mean lumas."""
    dtype, allowed, _ = ARITHMETIC[kind]
    encoders = text_encoders(model, dtype, bench.device)
    base = Base("random", vae(model, dtype, bench.device), [tokenizer() for _ in encoders], encoders)
    with tempfile.TemporaryDirectory() as scratch, tf32(allowed):
        pictures, out = (Path(scratch) / name for name in ("pictures", "out"))
        pictures.mkdir()
        out.mkdir()
        write_jpegs(pictures, model, count)
        source, options = open_source(str(pictures), unit_size=count), Options(model.pixels)
        base.identity()  # runs both networks, which warms up
        base.latents(torch.zeros(batch, model.pixels, model.pixels, 3, dtype=torch.uint8))
        took = seconds(lambda: encode(source, out, base, options, batch=batch, decoders=decoders))
    return {
        "base": model.name, "what": "singdiffusion encode", "kind": kind, "batch": batch, "decoders": decoders,
        "pictures": count, "rate": rates(count, [took]),
    }  # fmt: skip


def write_jpegs(folder: Path, model: Model, count: int) -> None:
    """Write synthetic JPEG files of a base's size, with captions."""
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (32, 32, 3), np.uint8)
    smooth = Image.fromarray(rough).resize((model.pixels, model.pixels), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(smooth, np.int16) + rng.integers(-6, 7, (model.pixels, model.pixels, 3)), 0, 255)
    file = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(file, "JPEG", quality=75)
    for i in range(count):
        (folder / f"{i:06d}.jpg").write_bytes(file.getvalue())
        (folder / f"{i:06d}.txt").write_text("a picture")


def encoder_rows(bench: Bench) -> Rows:
    """Yield the VAE in each arithmetic, then the whole command."""
    for model, batches in zip(bench.models, ((8, 32), (8,)), strict=True):
        for kind in ARITHMETIC:
            for batch in batches if kind.startswith("bf16") else batches[:1]:
                yield partial(vae_alone, bench, model, kind, batch)
        count = 16 if bench.small else 768 * 512**2 // model.pixels**2
        for kind, decoders in (("bf16", 4), ("bf16", 12), (FLOAT32, 4)):
            yield partial(whole_encode, bench, model, kind, 8, decoders, count)


# -- text encoders ----------------------------------------------------------------------------------------------------


def captions(bench: Bench, count: int) -> Tensor:
    """Return random token ids (count, 77)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 49_000, (count, TOKENS), generator=generator).to(bench.device)


@torch.no_grad()
def text_alone(bench: Bench, model: Model, which: int, batch: int) -> Row:
    """Measure captions per second through a text encoder, in bf16."""
    encoder = text_encoders(model, torch.bfloat16, bench.device)[which]
    ids = captions(bench, batch)
    took = in_turn({"embed": lambda: encoder(ids, output_hidden_states=which > 0)}, bench.budget(1.5))["embed"]
    return {"what": TEXT_NAMES[which], "which": which, "dtype": "bf16", "batch": batch, "rate": rates(batch, took)}


def text_rows(bench: Bench) -> Rows:
    """Yield both text encoders of SDXL; the first is that of SD-1.5 too."""
    for which in range(2):
        for batch in (1, 64) if bench.small else (1, 64, 256, 1024):
            yield partial(text_alone, bench, bench.models[-1], which, batch)
