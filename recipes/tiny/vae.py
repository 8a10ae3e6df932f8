"""Stage 1: an AutoencoderKL between pictures of 64 x 64 pixels and latents of 4 x 16 x 16."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn.functional import avg_pool2d

from . import look
from .pictures import World, load_world
from .training import Budget, Stage

BATCH = 24
RATE = 2e-3
KL_WEIGHT = 3e-4  # of the mean over latent elements, beside means over pixels; keeps latents smooth and bounded


def network() -> AutoencoderKL:
    """Return an untrained autoencoder."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 48, 96),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=64,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def pixels(world: World, seed: tuple[int, ...], count: int, device: torch.device) -> tuple[Tensor, list[str]]:
    """Return ``count`` pictures [B, 3, 64, 64] in -1..1, channels_last, and their captions."""
    rng = np.random.default_rng(seed)
    drawn = [world.sample(rng) for _ in range(count)]
    batch = torch.from_numpy(np.stack([picture for picture, _ in drawn])).to(device)
    return batch.permute(0, 3, 1, 2).float() / 127.5 - 1, [caption for _, caption in drawn]


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def pixel_loss(decoded: Tensor, x: Tensor) -> Tensor:
    """Return the reconstruction loss: L1 of pixels, of their differences and of 4 x 4 means, and MSE of pixels.

    Differences keep strokes sharp; the 4 x 4 means and the MSE keep colours right.
    """
    pixel = (decoded - x).abs().mean()
    edge = sum((a - b).abs().mean() for a, b in zip(_slopes(decoded), _slopes(x), strict=True))
    color = (avg_pool2d(decoded, 4) - avg_pool2d(x, 4)).abs().mean() + (decoded - x).square().mean()
    return pixel + 0.5 * edge + color


def loss(vae: AutoencoderKL, x: Tensor) -> dict[str, Tensor]:
    """Return the terms of the loss: reconstruction, and KL divergence from N(0, I)."""
    posterior = vae.encode(x).latent_dist
    decoded = vae.decode(posterior.sample()).sample.float()
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    pixel = (decoded - x).abs().mean()
    return {"loss": pixel_loss(decoded, x) + KL_WEIGHT * kl, "pixel": pixel.detach(), "kl": kl.detach()}


def train(folder: Path, budget: Budget) -> None:
    """Train the autoencoder; writes ``vae/`` in diffusers' layout and ``vae_sheet.png``."""
    world = load_world(folder)
    stage = Stage("vae", folder, {"vae": network()}, RATE)
    vae = stage.networks["vae"]

    def loss_at(step: int) -> dict[str, Tensor]:
        x, _ = pixels(world, (1, step), BATCH, stage.device)
        return loss(vae, x.contiguous(memory_format=torch.channels_last))

    stage.run(budget, loss_at)
    vae = stage.averaged()["vae"]
    _set_scaling(vae, world, stage.device)
    vae.save_pretrained(folder / "vae")
    _sheet(vae, world, stage.device, folder / "vae_sheet.png")


@torch.no_grad()
def _set_scaling(vae: AutoencoderKL, world: World, device: torch.device) -> None:
    """Set scaling_factor to 1 / standard deviation of the latents, as in Stable Diffusion."""
    x, _ = pixels(world, (2,), 1024, device)
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(64)])
    vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
    print("latents: mean", latents.mean((0, 2, 3)).tolist(), "std", latents.std((0, 2, 3)).tolist(), flush=True)


@torch.no_grad()
def _sheet(vae: AutoencoderKL, world: World, device: torch.device, file: Path) -> None:
    x, _ = pixels(world, (3,), 48, device)
    y = vae.decode(vae.encode(x).latent_dist.mean).sample
    shown = torch.stack([x, y], 1).flatten(0, 1).clamp(-1, 1).add(1).mul(127.5).round().byte()
    look.sheet(list(shown.permute(0, 2, 3, 1).cpu().numpy()), file)


def load(folder: Path) -> AutoencoderKL:
    """Return the trained autoencoder of this folder, frozen."""
    if not (folder / "vae").exists():
        raise SystemExit(f"error: no trained autoencoder in {folder}; run the stage `vae` first")
    return AutoencoderKL.from_pretrained(folder / "vae").eval().requires_grad_(False)
