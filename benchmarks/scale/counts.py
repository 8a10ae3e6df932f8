"""Counts and assumptions: networks at true size, their FLOPs, bytes per picture, and the rates that follow for an accelerator.

FLOPs are counted on the meta device, where tensors have shapes and no numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from singdiffusion.modules import MeanDecoder, TimeFreeUNet
from singdiffusion.train.losses import Objective

TOKENS = 77  # of a caption, per tokenizer
GRIDS = (8, 16)  # of decoders
SETS = {"20,000": 20_000, "1 million": 10**6, "100 million": 10**8, "600 million": 6 * 10**8}
TRAINED_BYTES = 4 + 4 + 8 + 4  # of a parameter: weight, gradient, two AdamW states and average, all float32
STORED_BYTES = 4 + 8 + 4  # the same in a checkpoint, without the gradient
# float32 numbers that clipping (3), AdamW (7), the average (3) and zeroing (1) move per parameter
OPTIMIZER_PASSES = 14


@dataclass(frozen=True)
class Assumptions:
    """What is neither counted nor measured.

    Attributes:
        jpeg, jpeg_1024: bytes of a JPEG of 512 and 1024 pixels as img2dataset writes it.
        key: characters of a key as img2dataset numbers them.
        unet, vae, text, decoder: share of the peak that the FLOPs reach: low, middle, high.
        disk_wait: seconds that a memory-mapped row waits for a local NVMe disk.
    """

    jpeg: int = 60_000
    jpeg_1024: int = 200_000
    key: int = 9
    unet: tuple[float, float, float] = (0.2, 0.3, 0.45)
    vae: tuple[float, float, float] = (0.2, 0.3, 0.5)
    text: tuple[float, float, float] = (0.2, 0.4, 0.5)
    decoder: tuple[float, float, float] = (0.03, 0.1, 0.2)
    disk_wait: float = 1e-4

    def utilisation(self, kind: str) -> tuple[float, float, float]:
        return asdict(self)[kind]


ASSUMED = Assumptions()


@dataclass(frozen=True)
class Accelerator:
    """Peak of dense bf16 matrix products with float32 accumulation, memory bandwidth and memory, from the vendor's data sheet."""

    name: str
    tflops: float
    tb_per_second: float
    gib: int


RTX4090 = Accelerator("RTX 4090", 165.2, 1.008, 24)
A100 = Accelerator("A100 SXM", 312.0, 2.039, 80)
H100 = Accelerator("H100 SXM", 989.4, 3.35, 80)
ACCELERATORS = (RTX4090, A100, H100)
LINKS = {"NVLink (H100)": 450e9, "100 Gbit/s": 12.5e9, "10 Gbit/s": 1.25e9}  # bytes/s in one direction, nominal
# pictures per second of SD 2's U-Net on A100s, 512 pixels, from latents (mosaicml/diffusion)
PUBLISHED_GPUS, PUBLISHED_RATE = 8, 290


@dataclass(frozen=True)
class Size:
    """The sizes of a base model."""

    name: str
    pixels: int
    text_width: int
    unet: dict[str, Any]
    text: list[dict[str, Any]] = field(default_factory=list)

    @property
    def side(self) -> int:
        """Height and width of a latent."""
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
SIZES = (SD15, SDXL)


# -- networks ---------------------------------------------------------------------------------------------------------


def unet(size: Size) -> nn.Module:
    return TimeFreeUNet(sample_size=size.side, cross_attention_dim=size.text_width, **size.unet)


def decoder(size: Size, grid: int) -> nn.Module:
    return MeanDecoder.preset({"SD-1.5": "sd15", "SDXL": "sdxl"}[size.name], grid=grid)


def vae() -> Any:
    """Return Stable Diffusion's autoencoder; SDXL's has the same shape."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), latent_channels=4, layers_per_block=2, **blocks
    ).eval()


def text_encoder(spec: dict[str, Any]) -> nn.Module:
    kind = CLIPTextModelWithProjection if spec is BIG_G else CLIPTextModel
    return kind(CLIPTextConfig(**spec)).eval()


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# -- FLOPs ------------------------------------------------------------------------------------------------------------


def count(run: Callable[[], Any]) -> int:
    """Return the FLOPs of matrix products, convolutions and attention; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def check_counter() -> None:
    """Compare the counter with formulas: attention forward and backward, a linear layer, a convolution."""
    batch, heads, ours, theirs, width = 2, 8, 64, 77, 40
    made = lambda n: torch.empty(batch, heads, n, width, device="meta", requires_grad=True)  # noqa: E731
    q, k, v = made(ours), made(theirs), made(theirs)
    formula = 2 * (2 * batch * heads * ours * theirs * width)  # q k^T and p v
    with torch.no_grad():
        assert count(lambda: F.scaled_dot_product_attention(q, k, v)) == formula
    # the backward pass has two products for each of the two: three times as many in all
    assert count(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()) == 3 * formula
    with torch.device("meta"), torch.no_grad():
        assert count(lambda: nn.Linear(320, 640)(torch.empty(5, 320))) == 2 * 5 * 320 * 640
        assert count(lambda: nn.Conv2d(4, 8, 3, padding=1)(torch.empty(1, 4, 16, 16))) == 2 * 16 * 16 * 4 * 8 * 9


def forward_and_step(network: Any, size: Size) -> dict[str, int]:
    """Return a module's parameters, and its FLOPs per picture: forward, and forward with the loss and backward as training does it."""
    y, x_1 = (torch.empty(1, 4, size.side, size.side, device="meta") for _ in range(2))
    text = torch.empty(1, TOKENS, size.text_width, device="meta")
    network.requires_grad_(False)
    forward = count(lambda: network.predict(x_1, text))
    network.requires_grad_(True)
    objective = Objective(network, "sample", 0.0)
    step = count(lambda: objective(y, x_1, text, (size.side, size.side)).backward())  # type: ignore[union-attr]
    return {"parameters": parameters(network), "forward": forward, "step": step}


def counted() -> dict[str, Any]:
    """Return parameters and FLOPs by size and network: ``vae``, ``text``, ``unet``, ``decoder 8``, ``decoder 16``."""
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
        encoder = parameters(autoencoder.encoder) + parameters(autoencoder.quant_conv)
        found[size.name] = {
            "vae": {"parameters": encoder, "forward": encode},
            "text": {"parameters": sum(map(parameters, encoders)), "forward": sum(embed), "each": embed},
        } | {name: forward_and_step(network, size) for name, network in networks.items()}
    with torch.device("meta"):
        found[SD2.name] = {"unet": forward_and_step(unet(SD2), SD2)}
    return found


# -- bytes ------------------------------------------------------------------------------------------------------------

JPEG, LATENTS, LOW_16, LOW_8, EMBEDDINGS = (
    "source JPEG (assumption)",
    "shard, latents",
    "shard, low frequencies, K = 16",
    "shard, low frequencies, K = 8",
    "prompt embeddings, bf16 (kept in memory)",
)


def row_bytes(side: int, tokens: int, tokenizers: int, key: int) -> int:
    """Return the bytes of a picture in a shard.

    4 x side x side float16 numbers, int32 token ids, a float32 mean luma, and its key in the JSON header. That is JSON within JSON, so
    the quotes of a key have two bytes each, and a comma and a space follow.
    """
    return 4 * side * side * 2 + tokenizers * tokens * 4 + 4 + key + 6


def embedding_bytes(size: Size) -> int:
    return TOKENS * size.text_width * 2


def formats(size: Size) -> dict[str, int]:
    """Return bytes per picture by format."""
    row = lambda side: row_bytes(side, TOKENS, len(size.text), ASSUMED.key)  # noqa: E731
    return {
        JPEG: ASSUMED.jpeg if size is SD15 else ASSUMED.jpeg_1024,
        LATENTS: row(size.side),
        LOW_16: row(16),
        LOW_8: row(8),
        EMBEDDINGS: embedding_bytes(size),
    }


# -- rates ------------------------------------------------------------------------------------------------------------

ENCODE, UNET = "encode", "U-Net, text computed"
COMPUTED, CACHED = "decoder, grid 16, text computed", "decoder, grid 16, text cached"

Work = list[tuple[str, int]]
"""Parts of the work on a picture, one after the other: (whose utilisation is assumed, FLOPs)."""


def rate(work: Work, accelerator: Accelerator, which: int = 1) -> float:
    """Return pictures per second.

    Args:
        which: 0, 1 or 2: low, middle or high utilisation.
    """
    return 1 / sum(flops / (accelerator.tflops * 1e12 * ASSUMED.utilisation(kind)[which]) for kind, flops in work)


def works(flops: dict[str, Any]) -> dict[tuple[str, str], Work]:
    """Return (size, name of the work) -> its parts, for one picture."""
    found: dict[tuple[str, str], Work] = {}
    for size in SIZES:
        one = flops[size.name]
        text = ("text", one["text"]["forward"])
        found[size.name, ENCODE] = [("vae", one["vae"]["forward"])]
        found[size.name, UNET] = [text, ("unet", one["unet"]["step"])]
        for grid in GRIDS:
            step = ("decoder", one[f"decoder {grid}"]["step"])
            found[size.name, f"decoder, grid {grid}, text computed"] = [text, step]
            found[size.name, f"decoder, grid {grid}, text cached"] = [step]
    return found


def allreduce_bytes(parameter_count: int, world: int = 8) -> float:
    """Return the bytes that each of ``world`` processes sends per step: a ring's 2 (n - 1) / n times the float32 gradients."""
    return 2 * (world - 1) / world * 4 * parameter_count


def published_share(flops: dict[str, Any]) -> float:
    """Return the share of the peak that the published rate reaches."""
    return PUBLISHED_RATE / PUBLISHED_GPUS * flops[SD2.name]["unet"]["step"] / (A100.tflops * 1e12)
