"""The cost model behind ``docs/scale.md``: FLOPs, bytes, memory and network of encoding and training at the size of SD-1.5 and SDXL.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --json out/scale.json     # some two minutes and 16 GB of memory
    OMP_NUM_THREADS=1 python benchmarks/scale.py --write                   # and write docs/scale.md
    python benchmarks/scale.py --quick                                     # only what is counted, nothing timed

FLOPs are counted on the meta device (shapes without numbers); what can be timed on one CPU thread is timed, with random weights. What is
neither counted nor measured stands in ``ASSUMED`` and is called an assumption on the page.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from singdiffusion.data import pictures
from singdiffusion.data.shards import LatentDataset, Plan
from singdiffusion.modules import MeanDecoder, TimeFreeUNet
from singdiffusion.modules.decoder import PRESETS
from singdiffusion.train.batches import noises
from singdiffusion.train.config import Data
from singdiffusion.train.losses import Objective

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
TOKENS = 77  # a caption, by each tokenizer
GRIDS = (8, 16)
SETS = {"20,000": 20_000, "1 million": 10**6, "100 million": 10**8, "600 million": 6 * 10**8}
TRAINED_BYTES = 4 + 4 + 8 + 4  # a parameter's weight, gradient, two AdamW states and average, all float32
STORED_BYTES = 4 + 8 + 4  # the same in a checkpoint: no gradient
OPTIMIZER_PASSES = (
    14  # float32 numbers that clipping (3), AdamW (7), the average (3) and zeroing (1) move for each parameter
)

ASSUMED: dict[str, Any] = {
    "jpeg": 60_000,  # bytes of a 512-pixel JPEG as img2dataset writes it
    "jpeg_1024": 200_000,
    "key": 9,  # characters of a key as img2dataset numbers them
    # share of the peak that the model's FLOPs reach: low, middle, high
    "unet": (0.2, 0.3, 0.45),
    "vae": (0.2, 0.3, 0.5),
    "text": (0.2, 0.4, 0.5),
    "decoder": (0.03, 0.1, 0.2),
    "fault": 1e-4,  # seconds that a memory-mapped row waits for a local NVMe disk
}


@dataclass(frozen=True)
class Accelerator:
    """Peak of dense bf16 matrix products with float32 accumulation, memory bandwidth and memory, from the vendor's data sheet."""

    name: str
    tflops: float
    tb_per_second: float
    gib: int


ACCELERATORS = [
    Accelerator("RTX 4090", 165.2, 1.008, 24),
    Accelerator("A100 SXM", 312.0, 2.039, 80),
    Accelerator("H100 SXM", 989.4, 3.35, 80),
]
H100 = ACCELERATORS[-1]
LINKS = {"NVLink (H100)": 450e9, "100 Gbit/s": 12.5e9, "10 Gbit/s": 1.25e9}  # bytes/s in one direction, nominal
PUBLISHED = {
    "gpus": 8,
    "pictures_per_second": 290,
}  # SD 2 U-Net, 512 pixels, latents precomputed, A100 (mosaicml/diffusion)


@dataclass(frozen=True)
class Size:
    """A base model's sizes."""

    name: str
    pixels: int
    text_width: int
    unet: dict[str, Any]
    text: list[dict[str, Any]] = field(default_factory=list)

    @property
    def side(self) -> int:
        return self.pixels // 8


CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
          "projection_dim": 768, "hidden_act": "quick_gelu"}  # fmt: skip
BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
         "projection_dim": 1280, "hidden_act": "gelu"}  # fmt: skip
SD15 = Size("SD-1.5", 512, 768, {"attention_head_dim": 8}, [CLIP_L])
SDXL = Size(
    "SDXL", 1024, 2048,
    {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
    },
    [CLIP_L, BIG_G],
)  # fmt: skip
SD2 = Size("SD-2", 512, 1024, {"attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True})
SIZES = [SD15, SDXL]


# -- networks ---------------------------------------------------------------------------------------------------------


def unet(size: Size) -> nn.Module:
    return TimeFreeUNet(sample_size=size.side, cross_attention_dim=size.text_width, **size.unet)


def decoder(size: Size, grid: int) -> nn.Module:
    return MeanDecoder.preset({"SD-1.5": "sd15", "SDXL": "sdxl"}[size.name], grid=grid)


def vae() -> Any:
    """Stable Diffusion's; SDXL's has the same shape."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), latent_channels=4, layers_per_block=2, **blocks
    ).eval()


def text_encoder(spec: dict[str, Any]) -> nn.Module:
    kind = CLIPTextModelWithProjection if spec is BIG_G else CLIPTextModel
    return kind(CLIPTextConfig(**spec)).eval()


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# -- counting ---------------------------------------------------------------------------------------------------------


def count(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions: a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def check_counter() -> None:
    """Hold the counter against formulas by hand: attention, a linear layer, a convolution; forward and, for attention, backward."""
    batch, heads, ours, theirs, width = 2, 8, 64, 77, 40
    made = lambda n: torch.empty(batch, heads, n, width, device="meta", requires_grad=True)  # noqa: E731
    q, k, v = made(ours), made(theirs), made(theirs)
    by_hand = 2 * (2 * batch * heads * ours * theirs * width)  # q k^T and p v
    with torch.no_grad():
        assert count(lambda: F.scaled_dot_product_attention(q, k, v)) == by_hand
    # two products backwards for each of the two: three times in all
    assert count(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()) == 3 * by_hand
    with torch.device("meta"), torch.no_grad():
        assert count(lambda: nn.Linear(320, 640)(torch.empty(5, 320))) == 2 * 5 * 320 * 640
        assert count(lambda: nn.Conv2d(4, 8, 3, padding=1)(torch.empty(1, 4, 16, 16))) == 2 * 16 * 16 * 4 * 8 * 9


def forward_and_step(network: Any, size: Size) -> dict[str, int]:
    """FLOPs of one picture through a module: forward, and forward with the loss and backward as training does it."""
    y, x_1 = (torch.empty(1, 4, size.side, size.side, device="meta") for _ in range(2))
    text = torch.empty(1, TOKENS, size.text_width, device="meta")
    network.requires_grad_(False)
    forward = count(lambda: network.predict(x_1, text))
    network.requires_grad_(True)
    objective = Objective(network, "sample", 0.0)
    step = count(lambda: objective(y, x_1, text, (size.side, size.side)).backward())  # type: ignore[union-attr]
    return {"parameters": parameters(network), "forward": forward, "step": step}


def counted() -> dict[str, Any]:
    """FLOPs and parameters of everything, by size: ``vae``, ``text``, ``unet``, ``decoder 8``, ``decoder 16``."""
    check_counter()
    found: dict[str, Any] = {}
    for size in SIZES:
        with torch.device("meta"):
            autoencoder, encoders = vae(), [text_encoder(spec) for spec in size.text]
            networks = {"unet": unet(size)} | {f"decoder {grid}": decoder(size, grid) for grid in GRIDS}
        picture = torch.empty(1, 3, size.pixels, size.pixels, device="meta")
        ids = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
        with torch.no_grad():
            encode = count(lambda a=autoencoder, p=picture: a.encode(p).latent_dist.mode())
            embed = [count(lambda e=e, i=ids: e(i)) for e in encoders]
        found[size.name] = {
            "vae": {
                "parameters": parameters(autoencoder.encoder) + parameters(autoencoder.quant_conv),
                "forward": encode,
            },
            "text": {"parameters": sum(map(parameters, encoders)), "forward": sum(embed), "each": embed},
        } | {name: forward_and_step(network, size) for name, network in networks.items()}
    with torch.device("meta"):
        found[SD2.name] = {"unet": forward_and_step(unet(SD2), SD2)}
    return found


# -- bytes ------------------------------------------------------------------------------------------------------------


def row_bytes(side: int, tokens: int, tokenizers: int, key: int) -> int:
    """A picture in a shard: float16 numbers 4 x side x side, int32 token ids, a float32 grey, and its key in the JSON header."""
    return 4 * side * side * 2 + tokenizers * tokens * 4 + 4 + key_bytes(key)


def key_bytes(characters: int) -> int:
    """Of ASCII: the header is JSON within JSON, so its quotes take two bytes each, and a comma and a space follow."""
    return characters + 6


def formats(size: Size) -> dict[str, int]:
    """Bytes a picture by format."""
    row = lambda side: row_bytes(side, TOKENS, len(size.text), ASSUMED["key"])  # noqa: E731
    return {
        "source JPEG (assumption)": ASSUMED["jpeg"] if size is SD15 else ASSUMED["jpeg_1024"],
        "shard, latents": row(size.side),
        "shard, low frequencies, K = 16": row(16),
        "shard, low frequencies, K = 8": row(8),
        "prompt embeddings, bf16 (kept in memory)": embedding_bytes(size),
    }


def embedding_bytes(size: Size) -> int:
    return TOKENS * size.text_width * 2


def measured_bytes(folder: Path) -> list[dict[str, Any]]:
    """What `singdiffusion encode` writes for each picture, from the difference of two shards, and what the formula says."""
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
        rows.append(
            {
                "side": side,
                "measured": (large["bytes"] - small["bytes"]) / (large["count"] - small["count"]),
                "formula": row_bytes(side, tokens[0], len(tokens), len("000000000.png")),
                "header": small["bytes"]
                - small["count"] * row_bytes(side, tokens[0], len(tokens), len("000000000.png")),
            }
        )
    return rows


# -- timing, on one thread --------------------------------------------------------------------------------------------


def seconds(run: Callable[[], Any], times: int = 3) -> float:
    """The least of some runs, after one that warms up."""
    run()
    took = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    return min(took)


def filled(network: Any) -> Any:
    """A network made on the meta device, with small random weights."""
    network.to_empty(device="cpu")
    for tensor in network.parameters():
        tensor.data.uniform_(-0.02, 0.02)
    for name, tensor in network.named_buffers():
        if name.endswith("position_ids"):
            tensor.copy_(torch.arange(tensor.shape[-1])[None])
    return network


def matmul_rates(m: int, k: int, n: int, times: int = 15) -> list[float]:
    """FLOP/s of a float32 matrix product (m, k) x (k, n), run by run."""
    a, b = torch.rand(m, k), torch.rand(k, n)
    repeat = max(1, int(5e8 / (m * k * n)))  # so that a run is no shorter than some milliseconds
    return [2 * m * k * n * repeat / seconds(lambda: [a @ b for _ in range(repeat)], 1) for _ in range(times)]


def checked(flops: dict[str, Any]) -> dict[str, Any]:
    """Seconds of true-size work with random weights in float32, beside those that FLOPs and the rate of matrix products give."""
    torch.set_num_threads(1)
    sd, found = flops[SD15.name], {}
    before = {s: matmul_rates(*s) for s in ((77, 768, 3072), (256, 768, 1536), (16_384, 1152, 128), (4096, 2880, 320))}
    x, kernel = torch.rand(1, 128, 256, 256), torch.rand(128, 128, 3, 3)
    yardsticks = {
        "square": max(matmul_rates(2048, 2048, 2048, 5)),
        "convolution": 2 * 256 * 256 * 128 * 128 * 9 / seconds(lambda: F.conv2d(x, kernel, padding=1), 5),
    }

    def add(name: str, work: int, took: float, shape: tuple[int, int, int]) -> None:
        rates = [*before.pop(shape), *matmul_rates(*shape)]
        found[name] = {
            "flops": work, "seconds": took, "shape": shape, "rate": max(rates), "slowest": min(rates), "predicted": work / max(rates)
        }  # fmt: skip

    with torch.device("meta"):
        made = {"text": text_encoder(CLIP_L), "decoder": decoder(SD15, 16), "vae": vae(), "unet": unet(SD15)}
    ids = torch.randint(0, 49_000, (1, TOKENS))
    with torch.no_grad():
        encoder = filled(made.pop("text"))
        add("CLIP ViT-L/14, one caption", sd["text"]["forward"], seconds(lambda: encoder(ids), 10), (77, 768, 3072))
    latents = torch.randn(8, 4, 64, 64)
    text = torch.randn(8, TOKENS, 768)
    objective = Objective(filled(made.pop("decoder")), "sample", 0.0)
    many, captions = (
        torch.randn(256, 4, 16, 16),
        torch.randn(256, TOKENS, 768),
    )  # low frequencies, as a decoder's shards hold them
    took = seconds(lambda: objective(many, None, captions, (64, 64)).backward(), 5)  # type: ignore[union-attr]
    add("decoder, grid 16, step of 256 pictures", 256 * sd["decoder 16"]["step"], took, (256, 768, 1536))
    with torch.no_grad():
        autoencoder, picture = filled(made.pop("vae")), torch.rand(1, 3, 512, 512) * 2 - 1
        took = seconds(lambda: autoencoder.encode(picture).latent_dist.mode(), 1)
    add("VAE encoder, one picture of 512 pixels", sd["vae"]["forward"], took, (16_384, 1152, 128))
    objective = Objective(filled(made.pop("unet")), "sample", 0.0)
    took = seconds(lambda: objective(latents[:1], latents[1:2], text[:1], (64, 64)).backward(), 1)  # type: ignore[union-attr]
    add("U-Net, step of one picture", sd["unet"]["step"], took, (4096, 2880, 320))
    return {"work": found} | yardsticks


def host_rates(shards: Path) -> dict[str, Any]:
    """What one CPU thread does beside the accelerator, a second: pictures decoded, rows read, noise drawn, bytes hashed.

    Also the bytes of the JPEG that is decoded.
    """
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(640)[:, None], np.fft.fftfreq(640)[None]) + 1 / 640
    spectrum = np.fft.fft2(rng.standard_normal((3, 640, 640))) / frequency**1.4  # falls about as photographs' do
    waves = np.real(np.fft.ifft2(spectrum))
    waves /= waves.std((1, 2), keepdims=True)
    pixels = (127 + 50 * (waves[:1] + 0.3 * waves)).clip(0, 255).astype(np.uint8)  # mostly grey
    file = io.BytesIO()
    Image.fromarray(pixels[:, :512].transpose(1, 2, 0)).save(file, "JPEG", quality=75)
    decode = lambda: pictures.fit(pictures.load(io.BytesIO(file.getvalue()), 256, 512)[0], 512, 512)  # noqa: E731
    data = LatentDataset(shards)
    rows = rng.permutation(len(data))[:256]
    block = bytes(1 << 26)
    return {
        "jpeg_bytes": file.tell(),
        "decode": 1 / seconds(decode, 10),
        "read": 256 / seconds(lambda: data.read(rows), 20),
        "noise SD-1.5": 32 / seconds(lambda: noises((4, 64, 64), 0, 0, range(32)), 10),
        "noise SDXL": 8 / seconds(lambda: noises((4, 128, 128), 0, 0, range(8)), 10),
        "hash": len(block) / seconds(lambda: hashlib.sha256(block).digest()),
    }


class _Rows(LatentDataset):
    """The table of rows of a set of pictures, and nothing else."""

    def __init__(self, number: int):
        self.starts = np.array([0, number])


def reader_memory(number: int = 10**6) -> dict[str, float]:
    """Bytes a picture that the order of an epoch takes in each process: kept, and at its peak."""
    tracemalloc.start()
    plan = Plan(_Rows(number), batch=256, held_out=512)
    plan.rows(0)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"kept": kept / number, "peak": peak / number}


# -- the model --------------------------------------------------------------------------------------------------------


def rate(work: list[tuple[str, int]], accelerator: Accelerator, which: int = 1) -> float:
    """Pictures a second; ``work``: (what share of the peak is assumed, FLOPs) one after the other; ``which``: low, middle or high."""
    return 1 / sum(flops / (accelerator.tflops * 1e12 * ASSUMED[kind][which]) for kind, flops in work)


def works(flops: dict[str, Any]) -> dict[tuple[str, str], list[tuple[str, int]]]:
    """(size, what is done) -> its parts, for one picture."""
    found = {}
    for size in SIZES:
        one = flops[size.name]
        text = ("text", one["text"]["forward"])
        found[size.name, "encode"] = [("vae", one["vae"]["forward"])]
        found[size.name, "U-Net, text encoded live"] = [text, ("unet", one["unet"]["step"])]
        for grid in GRIDS:
            step = ("decoder", one[f"decoder {grid}"]["step"])
            found[size.name, f"decoder, grid {grid}, text encoded live"] = [text, step]
            found[size.name, f"decoder, grid {grid}, embeddings kept"] = [step]
    return found


def allreduce_bytes(count_of_parameters: int, world: int = 8) -> float:
    """What each of ``world`` processes sends (and receives) in a step: a ring's 2 (n - 1) / n times the float32 gradients."""
    return 2 * (world - 1) / world * 4 * count_of_parameters


# -- the page ---------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three figures, thousands separated."""
    if value >= 100:
        return f"{round(value, 3 - len(str(int(value)))):,.0f}"
    return f"{value:.3g}"


def in_bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"


def in_time(value: float) -> str:
    for unit, size in (("days", 172_800 / 2), ("h", 3600), ("min", 60), ("s", 1)):
        if value >= (2 * size if unit == "days" else size):
            return f"{number(value / size)} {unit}"
    return f"{number(value * 1e3)} ms"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def flops_table(flops: dict[str, Any]) -> str:
    names = {"vae": "VAE encoder", "text": "text encoders", "unet": "U-Net"} | {
        f"decoder {g}": f"decoder, grid {g}" for g in GRIDS
    }
    rows = []
    for size in SIZES:
        for key, name in names.items():
            one = flops[size.name][key]
            step = one.get("step")
            rows.append(
                [size.name, name, number(one["parameters"] / 1e6), number(one["forward"] / 1e9)]
                + (["", "", ""] if step is None else [number(step / 1e9), f"{step / one['forward']:.3f}", in_bytes(one["parameters"] * TRAINED_BYTES)])
            )  # fmt: skip
    head = [
        "base",
        "network",
        "parameters, M",
        "forward, GFLOP",
        "step, GFLOP",
        "step / forward",
        "memory to train",
    ]
    return table(head, rows)


def bytes_table() -> str:
    head = ["base", "format", "bytes a picture", *SETS]
    rows = [
        [size.name, name, f"{each:,}", *(in_bytes(each * n) for n in SETS.values())]
        for size in SIZES
        for name, each in formats(size).items()
    ]
    return table(head, rows)


def rates_table(flops: dict[str, Any]) -> str:
    """Pictures a second of one accelerator, with the range of the assumption."""
    rows = []
    for (size, name), work in works(flops).items():
        cells = []
        for accelerator in ACCELERATORS:
            needs = flops[size]["unet"]["parameters"] * TRAINED_BYTES if name.startswith("U-Net") else 0
            low, middle, high = (number(rate(work, accelerator, i)) for i in range(3))
            cells.append("too large" if needs > accelerator.gib * 2**30 else f"{middle} ({low} to {high})")
        rows.append([size, name, *cells])
    return table(["base", "work", *(a.name for a in ACCELERATORS)], rows)


def hours_table(flops: dict[str, Any]) -> str:
    rows = []
    for (size, name), work in works(flops).items():
        a100 = ACCELERATORS[1]
        low, middle, high = (1e6 / rate(work, a100, i) / 3600 for i in (2, 1, 0))
        epochs = [in_time(n / rate(work, H100)) for n in list(SETS.values())[:3]]
        rows.append([size, name, f"{number(middle)} ({number(low)} to {number(high)})", *epochs])
    head = ["base", "work", "A100-hours a million", *(f"H100, {name}" for name in list(SETS)[:3])]
    return table(head, rows)


def network_table(flops: dict[str, Any]) -> str:
    rows = []
    for size in SIZES:
        for key, name in (("unet", "U-Net"), ("decoder 16", "decoder, grid 16")):
            one = flops[size.name][key]
            kind = "unet" if key == "unet" else "decoder"
            alone = rate([("text", flops[size.name]["text"]["forward"]), (kind, one["step"])], H100)
            sent = allreduce_bytes(one["parameters"])
            cells = [f"{in_time(sent / speed)}, {number(alone * sent / speed)} pictures" for speed in LINKS.values()]
            moved = one["parameters"] * 4 * OPTIMIZER_PASSES / (H100.tb_per_second * 1e12)
            rows.append([size.name, name, in_bytes(sent), *cells, in_time(moved)])
    return table(["base", "module", "sent a step", *LINKS, "optimizer, H100"], rows)


def feed_table(flops: dict[str, Any]) -> str:
    rows = []
    for size in SIZES:
        text, one = flops[size.name]["text"]["forward"], flops[size.name]
        unet_rate = 8 * rate([("text", text), ("unet", one["unet"]["step"])], H100)
        live = 8 * rate([("text", text), ("decoder", one["decoder 16"]["step"])], H100)
        kept = 8 * rate([("decoder", one["decoder 16"]["step"])], H100)
        of = formats(size)
        for name, speed, each in (
            ("encode, from source JPEG", 8 * rate([("vae", one["vae"]["forward"])], H100), of["source JPEG (assumption)"]),
            ("U-Net, latents", unet_rate, of["shard, latents"]),
            ("decoder, grid 16, latents", live, of["shard, latents"]),
            ("decoder, grid 16, K = 16", live, of["shard, low frequencies, K = 16"]),
            ("decoder, grid 16, K = 16 and stored embeddings", kept, of["shard, low frequencies, K = 16"] + embedding_bytes(size)),
        ):  # fmt: skip
            rows.append([size.name, name, number(speed), in_bytes(speed * each) + "/s"])
    return table(["base", "work, 8 H100", "pictures a second", "bytes to read"], rows)


def check_table(found: dict[str, Any]) -> str:
    rows = []
    for name, one in found["work"].items():
        m, k, n = one["shape"]
        rows.append(
            [name, number(one["flops"] / 1e9), f"{m} x {k} x {n}", f"{number(one['rate'] / 1e9)} ({number(one['slowest'] / 1e9)})", in_time(one["predicted"]),
             in_time(one["seconds"]), f"{one['seconds'] / one['predicted']:.2f}"]
        )  # fmt: skip
    head = [
        "work",
        "GFLOP",
        "matrix product of its shape",
        "GFLOP/s, best (worst)",
        "predicted",
        "measured",
        "measured / predicted",
    ]
    return table(head, rows)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


TEXT = """\
# What training at LAION's scale costs

*Written by `python benchmarks/scale.py --write`. Everything here is counted, derived or measured by that script, or called an assumption.
Nothing here was run on a GPU.*

A module is trained once per latent space. Pictures are encoded once (`singdiffusion encode`); a training step then reads latents or their
lowest frequencies, embeds the captions with the base's frozen text encoders, and trains a U-Net (`TimeFreeUNet`, the paper's) or a decoder
(`MeanDecoder`, which sees no noise).

**How many pictures a module must see is not known to us**: neither the paper's batch size nor its number of steps is. So costs are given for
a million pictures seen, and for one epoch. The embedded model's module saw 384,000 (6,000 steps of 64), which says little about LAION.

## FLOPs and memory

Counted by torch's `FlopCounterMode` on the `meta` device at true size, one picture, {tokens} tokens a tokenizer; a multiplication and an addition
are two operations. Only matrix products, convolutions and attention count. The script holds the counter against formulas by hand for a linear
layer, a convolution and attention. A step is forward and backward of training's own objective with its loss. Memory to train is {trained_bytes} bytes a
parameter: float32 weights, gradients, two AdamW states and the averaged weights; activations come on top.

{flops}

- The ratio of step to forward was counted, not assumed. It is just under 3 because nothing needs the gradient with respect to the noise or
  the text. Gradient checkpointing adds one forward (a ratio near 4). A fused attention recomputes its scores in the backward pass, which is not
  counted as work.
- SDXL's U-Net is counted without its additional embedding (size and pooled text), which `TimeFreeUNet` refuses since it acts through the time
  embedding. The last layers of SDXL's text encoders are counted although their output is not used, because they are computed.
- At inference a module costs one forward for the prompt and one for the negative prompt. A decoder of grid 16 costs {decoder_share} of a U-Net's for SD-1.5.
- A checkpoint is {stored_bytes} bytes a parameter: {checkpoint_sd} for SD-1.5's U-Net, {checkpoint_xl} for SDXL's, {checkpoint_decoder} for a decoder of grid 16.
  At the default of one every 10 minutes that is {checkpoint_rate}/s on average for SDXL's U-Net.

## Bytes a picture

A row of a shard is 4 x side x side float16 numbers, {tokens} int32 token ids a tokenizer, a float32 grey, and its key in the JSON header, which takes
6 bytes more than its characters. Assumptions: {jpeg} for a source JPEG of 512 pixels and {jpeg_1024} for one of 1024, and keys of {key} characters.

{bytes}

Checked: the difference of two shards that `singdiffusion encode` wrote with the embedded base, per picture.

{bytes_check}

A shard has {header} of header besides, which is nothing at 2,048 pictures or more. Prompt embeddings are {embedding_ratio} times as large as SD-1.5's latents.
`text_cache_mib` (default {cache_mib}) holds those of {cache_sd} distinct captions for SD-1.5 and {cache_xl} for SDXL, in the memory of every process; where there
are more distinct captions, all are embedded anew at every step.

## Pictures a second

Pictures a second = peak x utilisation / FLOPs, text and module one after the other. Peaks are dense bf16 with float32 accumulation from
the data sheets: {peaks} TFLOP/s. **Utilisation is an assumption**, low, middle and high:

{utilisation}

The U-Net's is held against one published figure: MosaicML trained SD-2's U-Net on latents at {published} pictures a second on {published_gpus} A100s
([mosaicml/diffusion](https://github.com/mosaicml/diffusion)), which by the count of that U-Net ({sd2_step} GFLOP a step) is {published_share} of the peak. It may be
lower on an H100, whose memory is {faster_memory} times as fast as an A100's while its peak is {faster_peak} times as high. The decoder's is low because its matrix
products are thin (those of width {width} have at most {intensity} FLOP a byte moved, where an H100 needs {ridge} to be busy) and its steps short.

Of one accelerator, middle (low to high):

{rates}

"Too large": the memory to train exceeds the card's. Encoding at these rates needs `--dtype bfloat16`; the default is float32, whose peak is at
best half as high. Reading, decoding of JPEG and the network are in the sections below.

## GPU-hours

For a million pictures on an A100, middle (low to high); and one epoch on one H100, middle:

{hours}

## Network

Distributed data parallel training all-reduces float32 gradients: each of n processes sends 2 (n-1)/n x 4 bytes a parameter in a step. The table has
the time for n = 8 at the links' nominal speed, and how many pictures one H100 trains in that time. Communication overlaps the backward
pass, two thirds of a step, so it hides behind computation where each GPU has at least 1.5 times as many pictures a step (accumulated ones
count only for the last micro-batch). Between 8 nodes of 8 GPUs each, with one such link a node, the times are the same. The last column is what
clipping, AdamW and the average take: {passes} float32 numbers moved a parameter, at the memory's nominal speed.

{network}

## Storage and host

What 8 H100 read while they train at the middle rates, captions embedded live unless said:

{feed}

One thread of the processor below does this a second: {decode} JPEGs of 512 pixels ({jpeg_made}, synthetic) decoded, scaled and cropped; {read} rows read
from shards in memory (4 x 16 x 16 numbers, the bytes of K = 16); noise drawn for {noise_sd} pictures of SD-1.5 or {noise_xl} of SDXL.

- Encoding on an H100 at {encode_h100} pictures a second wants {decode_cores} such threads to decode; `encode --decoders` says how many there are, four unless
  told otherwise.
- A U-Net's input is small: 8 H100 want {noise_cores} threads for noise, and a disk of any kind.
- A decoder's is not, unless it is in memory, where 8 H100 want {read_cores} threads that read. Rows are read at random, and each that is not in memory costs two
  waits (latents, token ids) of about {fault} (assumption, local NVMe), {cold} pictures a second a worker, so that 8 H100 want {cold_workers} (`data.workers`). Low
  frequencies of 100 million pictures fit into a node's memory ({low_100m} at K = 16); latents ({latents_100m}) do not.
- Storing embeddings instead of computing them takes {emb_100m_sd} for 100 million captions of SD-1.5 and {emb_100m_xl} of SDXL, and the reading rates above.
  By FLOPs a caption through the text encoders costs {text_steps_sd} times a decoder's whole step for SD-1.5 and {text_steps_xl} times for SDXL (grid 16; {text_steps_sd_8} and {text_steps_xl_8} times for grid 8), so
  storing saves {text_sd} and {text_xl} of the time at the middle utilisations of grid 16. Of a U-Net's time text is {text_unet_sd} and {text_unet_xl}. Within one epoch of distinct captions embedding
  live costs no more than storing; storing pays from the second epoch on, where there is room.
- So the bottleneck of a U-Net is the GPU, or the network at 10 Gbit/s; of a decoder it is the text encoders if its data are in memory, and
  reading if they are not.

Limits of the present reader, which the tables leave out:

- The order of an epoch takes {kept} bytes a picture in every process and {peak} while it is made (measured): {kept_100m} for 100 million, {kept_600m} for 600 million.
- `manifest.json` holds a SHA-256 of every shard, made by one process at {hash} on the same thread: {hash_latents} for the latents of 100 million pictures, {hash_low} for K = 16.

## Check

Seconds on one thread ({processor}, float32, random weights, the least of a few runs{busy}), against FLOPs over the best rate of a matrix product
whose shape is common in the network, timed before and after. A square product of 2,048 reaches {square} GFLOP/s, a 3 x 3 convolution of the VAE
(128 channels, 256 x 256) {convolution}.

{check}

The prediction holds to within {within} on this processor. Above 1 is what is not counted: normalisation, activations and softmax, which move
memory and multiply little, and backward products of less favourable shapes. Below 1 the work runs faster than the matrix product it is held
against, as direct convolutions can, or the rate was taken in a slower moment; the range of the rates shows how much these vary. A GPU's
matrix units are faster against its memory than a processor's, so there the uncounted part weighs more; the assumed utilisation stands for it.

## What to do

**20,000 pictures, one GPU.** A decoder. On an RTX 4090 encoding takes {c_encode} (SD-1.5), low frequencies of K = 16 are {c_low}, all embeddings fit into the cache ({c_cache};
SDXL's need `text_cache_mib={c_cache_xl}`), and a million pictures seen, 50 epochs, take {c_decoder} with grid 16. The U-Net takes {c_unet} for the same million; its
{c_memory} of weights and states leave {c_left} of 24 GiB for activations, so gradient checkpointing is likely to be needed, which adds a third. So few
pictures should not train {c_weights} million weights from scratch: start from the base's (`network.init`). SDXL's U-Net does not fit on such a card.

**100 million pictures, 64 GPUs.** Encode on all 64 (H100): {c_encode_64} for SD-1.5, with {c_cores} threads that decode, and {c_encode_64_xl} for SDXL. Keep K = 16 ({c_low_100m}), and latents
({c_latents_100m}) only if a U-Net is wanted. A decoder's epoch (grid 16, text live) is {c_gpu_decoder} GPU-hours for SD-1.5 and {c_gpu_decoder_xl} for SDXL: 8 GPUs take {c_decoder_8} and
{c_decoder_8_xl}, and 64 are not needed. Most of that is the text encoders. A U-Net's epoch is {c_gpu_unet} GPU-hours for SD-1.5 and {c_gpu_unet_xl} for SDXL, {c_unet_64} and {c_unet_64_xl} on 64 H100.
With one link of 100 Gbit/s a node it wants at least {c_batch} (SD-1.5) and {c_batch_xl} (SDXL) pictures a GPU and step before the network stops being the bottleneck; with 10 Gbit/s ten
times as many. A decoder's gradients want {c_batch_decoder} pictures a GPU and step even at 10 Gbit/s, which is a usual batch for it.

**Which kind.** A step of a decoder of grid 16 has {c_ratio} times fewer FLOPs than a U-Net's for SD-1.5 and {c_ratio_xl} times fewer for SDXL; with text encoded live, and at the
utilisation assumed, training it is {c_whole} and {c_whole_xl} times faster. Both have the same minimum, E[y | prompt]. That {c_parameters} million parameters are enough to
come near it on LAION's captions is not shown here; a decoder of ten times the FLOPs would still be {c_larger} times faster than the U-Net for SD-1.5.
"""


def wrapped(text: str, width: int = 138) -> str:
    """Paragraphs and lists filled anew; headings and tables as they are."""
    blocks = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(("|", "#")):
            parts = block.split("\n- ") if block.startswith("- ") else [block]
            parts = ["- " + part.removeprefix("- ") for part in parts] if block.startswith("- ") else parts
            indent = "  " if block.startswith("- ") else ""
            fill = textwrap.TextWrapper(
                width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            ).fill
            # "K = 16" stays on one line
            parts = [" ".join(part.split()).replace(" = ", "\u00a0=\u00a0") for part in parts]
            block = "\n".join(map(fill, parts)).replace("\u00a0", " ")
        blocks.append(block)
    return "\n\n".join(blocks) + "\n"


def page(figures: dict[str, Any]) -> str:
    """The page, from everything that ``main`` gathers."""
    flops, host, memory, check = (figures[key] for key in ("flops", "host", "reader", "check"))
    sd, xl = flops[SD15.name], flops[SDXL.name]
    work = works(flops)
    live, kept = "decoder, grid 16, text encoded live", "decoder, grid 16, embeddings kept"
    net = "U-Net, text encoded live"
    small = ACCELERATORS[0]
    of_sd, of_xl = formats(SD15), formats(SDXL)
    cache = Data.model_fields["text_cache_mib"].default
    encode_h100 = rate(work["SD-1.5", "encode"], H100)
    row = lambda key: {size.name: allreduce_bytes(flops[size.name][key]["parameters"]) for size in SIZES}  # noqa: E731
    sent = row("unet")
    ratios = [one["seconds"] / one["predicted"] for one in check["work"].values()]
    share = lambda size, what: rate(work[size, what], H100) / rate(work[size, what][:1], H100)  # noqa: E731
    hours = lambda size, what: number(1e8 / rate(work[size, what], H100) / 3600)  # noqa: E731
    on = lambda size, what, gpus: in_time(1e8 / rate(work[size, what], H100) / gpus)  # noqa: E731
    percent = lambda value: f"{value:.0%}" if value >= 0.095 else f"{value:.1%}"  # noqa: E731
    width = PRESETS["sd15"]["width"]
    larger = [(kind, flops if kind == "text" else 10 * flops) for kind, flops in work["SD-1.5", live]]
    whole = lambda size: rate(work[size, live], H100) / rate(work[size, net], H100)  # noqa: E731
    return wrapped(TEXT.format(
        tokens=TOKENS, trained_bytes=TRAINED_BYTES, stored_bytes=STORED_BYTES, passes=OPTIMIZER_PASSES,
        flops=flops_table(flops), bytes=bytes_table(), rates=rates_table(flops), hours=hours_table(flops),
        network=network_table(flops), feed=feed_table(flops), check=check_table(check),
        decoder_share=f"1/{round(sd['unet']['forward'] / sd['decoder 16']['forward'], -1):.0f}",
        checkpoint_sd=in_bytes(sd["unet"]["parameters"] * STORED_BYTES),
        checkpoint_xl=in_bytes(xl["unet"]["parameters"] * STORED_BYTES),
        checkpoint_decoder=in_bytes(sd["decoder 16"]["parameters"] * STORED_BYTES),
        checkpoint_rate=in_bytes(xl["unet"]["parameters"] * STORED_BYTES / 600),
        jpeg=in_bytes(ASSUMED["jpeg"]), jpeg_1024=in_bytes(ASSUMED["jpeg_1024"]), key=ASSUMED["key"],
        bytes_check=table(
            ["numbers", "formula, bytes a picture", "measured"],
            [[f"4 x {one['side']} x {one['side']}", str(one["formula"]), f"{one['measured']:.1f}"] for one in figures["bytes"]],
        ),
        header=in_bytes(max(one["header"] for one in figures["bytes"])),
        embedding_ratio=f"{embedding_bytes(SD15) / of_sd['shard, latents']:.1f}",
        cache_mib=cache, cache_sd=f"{(cache << 20) // embedding_bytes(SD15):,}", cache_xl=f"{(cache << 20) // embedding_bytes(SDXL):,}",
        peaks=", ".join(f"{a.name} {a.tflops:g}" for a in ACCELERATORS),
        utilisation=table(
            ["work", "low", "middle", "high"],
            [[name, *map(str, ASSUMED[key])] for key, name in
             {"unet": "U-Net, training", "vae": "VAE encoder", "text": "text encoders", "decoder": "decoder, training"}.items()],
        ),
        published=PUBLISHED["pictures_per_second"], published_gpus=PUBLISHED["gpus"],
        sd2_step=number(flops["SD-2"]["unet"]["step"] / 1e9), published_share=percent(figures["published_share"]),
        width=width, intensity=number(width / 2), ridge=number(H100.tflops / H100.tb_per_second),
        faster_memory=f"{H100.tb_per_second / ACCELERATORS[1].tb_per_second:.1f}", faster_peak=f"{H100.tflops / ACCELERATORS[1].tflops:.1f}",
        decode=number(host["decode"]), jpeg_made=in_bytes(host["jpeg_bytes"]), read=number(host["read"]),
        noise_sd=number(host["noise SD-1.5"]), noise_xl=number(host["noise SDXL"]),
        encode_h100=number(encode_h100), decode_cores=f"{encode_h100 / host['decode']:.1f}",
        noise_cores=f"{8 * rate(work['SD-1.5', net], H100) / host['noise SD-1.5']:.1f}",
        read_cores=f"{8 * rate(work['SD-1.5', live], H100) / host['read']:.1f}",
        text_steps_sd=number(sd["text"]["forward"] / sd["decoder 16"]["step"]), text_steps_xl=number(xl["text"]["forward"] / xl["decoder 16"]["step"]),
        text_steps_sd_8=number(sd["text"]["forward"] / sd["decoder 8"]["step"]), text_steps_xl_8=number(xl["text"]["forward"] / xl["decoder 8"]["step"]),
        cold_workers=number(8 * rate(work["SD-1.5", live], H100) * 2 * ASSUMED["fault"]), fault=in_time(ASSUMED["fault"]), cold=number(1 / (2 * ASSUMED["fault"])),
        low_100m=in_bytes(1e8 * of_sd["shard, low frequencies, K = 16"]), latents_100m=in_bytes(1e8 * of_sd["shard, latents"]),
        emb_100m_sd=in_bytes(1e8 * embedding_bytes(SD15)), emb_100m_xl=in_bytes(1e8 * embedding_bytes(SDXL)),
        text_sd=percent(share("SD-1.5", live)), text_xl=percent(share("SDXL", live)),
        text_unet_sd=percent(share("SD-1.5", net)), text_unet_xl=percent(share("SDXL", net)),
        kept=number(memory["kept"]), peak=number(memory["peak"]),
        kept_100m=in_bytes(1e8 * memory["kept"]), kept_600m=in_bytes(6e8 * memory["kept"]),
        hash=in_bytes(host["hash"]) + "/s", hash_latents=in_time(1e8 * of_sd["shard, latents"] / host["hash"]),
        hash_low=in_time(1e8 * of_sd["shard, low frequencies, K = 16"] / host["hash"]),
        processor=figures["processor"], busy="; another process was running beside it" if figures["busy"] else "",
        square=number(check["square"] / 1e9), convolution=number(check["convolution"] / 1e9), within=f"a factor of {max(*ratios, *(1 / r for r in ratios)):.1f}",
        c_encode=in_time(2e4 / rate(work["SD-1.5", "encode"], small)),
        c_low=in_bytes(2e4 * of_sd["shard, low frequencies, K = 16"]), c_cache=in_bytes(2e4 * embedding_bytes(SD15)),
        c_cache_xl=-(-20_001 * embedding_bytes(SDXL) // 2**20 // 64) * 64 + 64,
        c_decoder=in_time(1e6 / rate(work["SD-1.5", kept], small)), c_unet=in_time(1e6 / rate(work["SD-1.5", net], small)),
        c_left=in_bytes(24 * 2**30 - sd["unet"]["parameters"] * TRAINED_BYTES), c_weights=number(sd["unet"]["parameters"] / 1e6),
        c_memory=in_bytes(sd["unet"]["parameters"] * TRAINED_BYTES),
        c_encode_64=on("SD-1.5", "encode", 64), c_encode_64_xl=on("SDXL", "encode", 64),
        c_cores=number(64 * encode_h100 / host["decode"]),
        c_low_100m=in_bytes(1e8 * of_sd["shard, low frequencies, K = 16"]),
        c_latents_100m=f"{in_bytes(1e8 * of_sd['shard, latents'])}, SDXL {in_bytes(1e8 * of_xl['shard, latents'])}",
        c_gpu_decoder=hours("SD-1.5", live), c_gpu_decoder_xl=hours("SDXL", live),
        c_decoder_8=on("SD-1.5", live, 8), c_decoder_8_xl=on("SDXL", live, 8),
        c_gpu_unet=hours("SD-1.5", net), c_gpu_unet_xl=hours("SDXL", net),
        c_unet_64=on("SD-1.5", net, 64), c_unet_64_xl=on("SDXL", net, 64),
        c_batch=number(1.5 * rate(work["SD-1.5", net], H100) * sent["SD-1.5"] / LINKS["100 Gbit/s"]),
        c_batch_xl=number(1.5 * rate(work["SDXL", net], H100) * sent["SDXL"] / LINKS["100 Gbit/s"]),
        c_batch_decoder=number(1.5 * rate(work["SD-1.5", live], H100) * row("decoder 16")["SD-1.5"] / LINKS["10 Gbit/s"]),
        c_ratio=number(sd["unet"]["step"] / sd["decoder 16"]["step"]), c_ratio_xl=number(xl["unet"]["step"] / xl["decoder 16"]["step"]),
        c_whole=number(whole("SD-1.5")), c_whole_xl=number(whole("SDXL")),
        c_larger=number(rate(larger, H100) / rate(work["SD-1.5", net], H100)),
        c_parameters=number(sd["decoder 16"]["parameters"] / 1e6),
    ))  # fmt: skip


def published_share(flops: dict[str, Any]) -> float:
    """Share of the peak in the published figure."""
    a100 = next(a for a in ACCELERATORS if a.name.startswith("A100"))
    return PUBLISHED["pictures_per_second"] / PUBLISHED["gpus"] * flops[SD2.name]["unet"]["step"] / (a100.tflops * 1e12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out what is timed")
    parser.add_argument(
        "--busy", action="store_true", help="say on the page that another process was running beside this one"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--write needs what is timed: leave out --quick")
    flops = counted()
    figures: dict[str, Any] = {"flops": flops, "published_share": published_share(flops), "assumed": ASSUMED}
    parts = [
        flops_table(flops),
        bytes_table(),
        rates_table(flops),
        hours_table(flops),
        network_table(flops),
        feed_table(flops),
    ]
    print("\n\n".join(parts))
    if not options.quick:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            figures["bytes"] = measured_bytes(Path(folder))
            figures["host"] = host_rates(Path(folder) / "shards-None")
        figures |= {"reader": reader_memory(), "processor": processor(), "busy": options.busy}
        figures["check"] = checked(flops)
        print("\n" + check_table(figures["check"]))
        for key in ("bytes", "host", "reader"):
            print(f"\n{key}: {figures[key]}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.write:
        PAGE.write_text(page(figures))
        print(f"\n{PAGE}")


if __name__ == "__main__":
    main()
