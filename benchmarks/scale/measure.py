"""Measurements on one CPU thread: bytes of real shards, rates of the host's work, memory of the reader, and the check of the model."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from singdiffusion.data import pictures
from singdiffusion.data.shards import LatentDataset, Plan
from singdiffusion.train.batches import noises
from singdiffusion.train.losses import Objective

from .counts import CLIP_L, SD15, TOKENS, decoder, row_bytes, text_encoder, unet, vae

Shape = tuple[int, int, int]
"""(m, k, n) of a matrix product (m, k) x (k, n)."""


def measured(flops: dict[str, Any], busy: bool) -> dict[str, Any]:
    """Return all measurements.

    Args:
        busy: whether another process runs at the same time; the page mentions it.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = {"bytes": shard_bytes(Path(folder)), "host": host_rates(Path(folder) / "shards-None")}
    found |= {"reader": reader_memory(), "processor": processor(), "busy": busy}
    return found | {"check": checked(flops)}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


def shard_bytes(folder: Path) -> list[dict[str, Any]]:
    """Return the bytes per picture that `singdiffusion encode` writes, from the difference of two shards, and those of the formula."""
    source, rng = folder / "pictures", np.random.default_rng(0)
    source.mkdir()
    for i in range(384):
        Image.fromarray(rng.integers(0, 256, (1, 1, 3), np.uint8)).resize((64, 64)).save(source / f"{i:09d}.png")
        (source / f"{i:09d}.txt").write_text("red apple on a dark blue background")
    rows = []
    for frequencies in (None, 4):
        out = folder / f"shards-{frequencies}"
        command = [sys.executable, "-m", "singdiffusion", "encode", str(source), str(out)]
        command += ["--base", "tiny", "--unit-size", "256", "--batch", "32"]
        command += [] if frequencies is None else ["--low-frequency", str(frequencies)]
        subprocess.run(command, check=True, capture_output=True)
        manifest = json.loads((out / "manifest.json").read_text())
        large, small = manifest["shards"]
        side, tokens = large["shapes"]["64x64"][-1], manifest["base"]["tokens"]
        formula = row_bytes(side, tokens[0], len(tokens), len("000000000.png"))
        rows.append(
            {
                "side": side,
                "measured": (large["bytes"] - small["bytes"]) / (large["count"] - small["count"]),
                "formula": formula,
                "header": small["bytes"] - small["count"] * formula,
            }
        )
    return rows


# -- the host's work --------------------------------------------------------------------------------------------------


def seconds(run: Callable[[], Any], times: int = 3) -> float:
    """Return the least time of some runs, after one that warms up."""
    run()
    took = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    return min(took)


def host_rates(shards: Path) -> dict[str, Any]:
    """Return what one thread does per second: pictures decoded, rows read, noise drawn, bytes hashed; and the bytes of the JPEG."""
    jpeg = synthetic_jpeg()
    decode = lambda: pictures.fit(pictures.load(io.BytesIO(jpeg), 256, 512)[0], 512, 512)  # noqa: E731
    data = LatentDataset(shards)
    rows = np.random.default_rng(0).permutation(len(data))[:256]
    block = bytes(1 << 26)
    return {
        "jpeg_bytes": len(jpeg),
        "decode": 1 / seconds(decode, 10),
        "read": 256 / seconds(lambda: data.read(rows), 20),
        "noise SD-1.5": 32 / seconds(lambda: noises((4, 64, 64), 0, 0, range(32)), 10),
        "noise SDXL": 8 / seconds(lambda: noises((4, 128, 128), 0, 0, range(8)), 10),
        "hash": len(block) / seconds(lambda: hashlib.sha256(block).digest()),
    }


def synthetic_jpeg() -> bytes:
    """Return a JPEG of 512 x 640 pixels whose spectrum falls about as that of photographs, with little color."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(640)[:, None], np.fft.fftfreq(640)[None]) + 1 / 640
    spectrum = np.fft.fft2(rng.standard_normal((3, 640, 640))) / frequency**1.4
    waves = np.real(np.fft.ifft2(spectrum))
    waves /= waves.std((1, 2), keepdims=True)
    pixels = (127 + 50 * (waves[:1] + 0.3 * waves)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :512].transpose(1, 2, 0)).save(file, "JPEG", quality=75)
    return file.getvalue()


class _Rows(LatentDataset):
    """The number of rows of a set of pictures, without the pictures."""

    def __init__(self, number: int):
        self.starts = np.array([0, number])


def reader_memory(number: int = 10**6) -> dict[str, float]:
    """Return the bytes per picture that the order of an epoch takes in each process: kept, and at its peak."""
    tracemalloc.start()
    plan = Plan(_Rows(number), batch=256, held_out=512)
    plan.rows(0)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"kept": kept / number, "peak": peak / number}


# -- the check --------------------------------------------------------------------------------------------------------

TEXT: Shape = (77, 768, 3072)
DECODER: Shape = (256, 768, 1536)
VAE: Shape = (16_384, 1152, 128)
UNET: Shape = (4096, 2880, 320)


def checked(flops: dict[str, Any]) -> dict[str, Any]:
    """Return seconds of true-size work with random weights in float32, and those predicted from FLOPs and the rate of matrix products."""
    one = flops[SD15.name]
    before = {shape: matmul_rates(*shape) for shape in (TEXT, DECODER, VAE, UNET)}
    x, kernel = torch.rand(1, 128, 256, 256), torch.rand(128, 128, 3, 3)
    found: dict[str, Any] = {
        "square": max(matmul_rates(2048, 2048, 2048, 5)),
        "convolution": 2 * 256 * 256 * 128 * 128 * 9 / seconds(lambda: F.conv2d(x, kernel, padding=1), 5),
        "work": {},
    }
    for name, work, shape, timed in (
        ("CLIP ViT-L/14, one caption", one["text"]["forward"], TEXT, text_seconds),
        ("decoder, grid 16, step of 256 pictures", 256 * one["decoder 16"]["step"], DECODER, decoder_seconds),
        ("VAE encoder, one picture of 512 pixels", one["vae"]["forward"], VAE, vae_seconds),
        ("U-Net, step of one picture", one["unet"]["step"], UNET, unet_seconds),
    ):
        took = timed()
        rates = [*before[shape], *matmul_rates(*shape)]
        found["work"][name] = {
            "flops": work, "seconds": took, "shape": shape, "rate": max(rates), "slowest": min(rates), "predicted": work / max(rates)
        }  # fmt: skip
    return found


def matmul_rates(m: int, k: int, n: int, times: int = 15) -> list[float]:
    """Return FLOP/s of a float32 matrix product (m, k) x (k, n), run by run."""
    a, b = torch.rand(m, k), torch.rand(k, n)
    repeat = max(1, int(5e8 / (m * k * n)))  # so that a run takes some milliseconds
    return [2 * m * k * n * repeat / seconds(lambda: [a @ b for _ in range(repeat)], 1) for _ in range(times)]


def filled(make: Callable[[], Any]) -> Any:
    """Return a network made on the meta device, with small random weights."""
    with torch.device("meta"):
        network = make()
    network.to_empty(device="cpu")
    for tensor in network.parameters():
        tensor.data.uniform_(-0.02, 0.02)
    for name, tensor in network.named_buffers():
        if name.endswith("position_ids"):
            tensor.copy_(torch.arange(tensor.shape[-1])[None])
    return network


@torch.no_grad()
def text_seconds() -> float:
    encoder = filled(lambda: text_encoder(CLIP_L))
    ids = torch.randint(0, 49_000, (1, TOKENS))
    return seconds(lambda: encoder(ids), 10)


@torch.no_grad()
def vae_seconds() -> float:
    autoencoder, picture = filled(vae), torch.rand(1, 3, 512, 512) * 2 - 1
    return seconds(lambda: autoencoder.encode(picture).latent_dist.mode(), 1)


def decoder_seconds() -> float:
    """Time a step on low frequencies, as a decoder's shards hold them."""
    objective = Objective(filled(lambda: decoder(SD15, 16)), "sample", 0.0)
    low, text = torch.randn(256, 4, 16, 16), torch.randn(256, TOKENS, 768)
    return seconds(lambda: objective(low, None, text, (64, 64)).backward(), 5)  # type: ignore[union-attr]


def unet_seconds() -> float:
    objective = Objective(filled(lambda: unet(SD15)), "sample", 0.0)
    y, x_1 = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 64, 64)
    text = torch.randn(1, TOKENS, 768)
    return seconds(lambda: objective(y, x_1, text, (64, 64)).backward(), 1)  # type: ignore[union-attr]
