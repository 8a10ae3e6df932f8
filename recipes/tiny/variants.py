"""Stages 5 to 7: variants of the base, which all work with the base's module.

- v: fine-tuned to v-prediction, as Stable Diffusion 2.
- community: U-Net and text encoder fine-tuned on another style of icons, with captions of another form.
- controlnet: a ControlNet for edges; the base is frozen.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import base, sources
from .base import MIN_SNR, Latents, coefficients, load_text, load_unet, noised
from .pictures import ICON_SIZES, PER_SEED, Picture, World, held_out, load_world, render
from .training import Budget, Stage, device
from .vocabulary import EMOJI

BATCH = 96
RATE = 4e-4
COMMUNITY_COMPOSITES = 30_000
CONTROL_COMPOSITES = 20_000
EDGE = 24  # levels of 255; a larger difference between neighbours, in any channel, is an edge


# -- v-prediction -----------------------------------------------------------------------------------------------------


def train_v(folder: Path, budget: Budget) -> None:
    """Fine-tune the base's U-Net to predict v = alpha noise - sigma x_0; writes ``v_unet/``."""
    base.make_latents(folder)
    where = device()
    data = Latents(folder, where)
    embeddings = data.embed(load_text(folder).to(where))
    stage = Stage("v", folder, {"unet": load_unet(folder).requires_grad_(True)}, RATE)
    net = stage.networks["unet"]
    alpha, sigma, snr = coefficients(where)
    weight = snr.clamp(max=MIN_SNR) / (snr + 1)  # the base's weight, expressed for v

    def loss_at(step: int) -> dict[str, Tensor]:
        x_0, caption, generator = data.batch((7, step), BATCH)
        x_t, noise, t = noised(x_0, generator, alpha, sigma)
        v = alpha[t, None, None, None] * noise - sigma[t, None, None, None] * x_0
        error = (net(x_t, t, embeddings[caption[:, 0]]).sample.float() - v).square().mean((1, 2, 3))
        return {"loss": (weight[t] * error).mean(), "v": error.mean().detach()}

    stage.run(budget, loss_at)
    stage.averaged()["unet"].save_pretrained(folder / "v_unet")


# -- a community checkpoint -------------------------------------------------------------------------------------------


@dataclass
class CommunityWorld(World):
    """The base's world with icons of another set, and captions such as "noto style, red apple, dark blue bg"."""

    def sample(self, rng: np.random.Generator) -> tuple[Picture, str]:
        """Draw an icon of the other set, or three times in ten a picture of the base's world, so that it is not forgotten."""
        if rng.random() < 0.3:
            return super().sample(rng)
        picture, caption = self.sticker(rng)
        name, _, where = caption.partition(" on ")
        color = where.removesuffix(" background").removeprefix("an ").removeprefix("a ")
        words = ["noto style", name] + ([f"{color} bg"] if color else [])
        return picture, ", ".join(words)


def community_world(folder: Path) -> CommunityWorld:
    """Return the world whose emoji are those of the set noto."""
    plain = load_world(folder)
    noto = sources.icon_set(sources.fetch(folder / "packages")["noto"])
    names = [name for name in EMOJI if not held_out("emoji", name)]
    emoji = {name: [render(noto[name], size) for size in ICON_SIZES] for name in names}
    return CommunityWorld(emoji, plain.line, plain.views)


def train_community(folder: Path, budget: Budget) -> None:
    """Fine-tune U-Net and text encoder on another style; writes ``community_unet/`` and ``community_text/``."""
    base.make_latents(folder, COMMUNITY_COMPOSITES, "latents_community", community_world(folder), seed=8)
    where = device()
    data = Latents(folder, where, "latents_community")
    networks = {"unet": load_unet(folder).requires_grad_(True), "text": load_text(folder).requires_grad_(True)}
    stage = Stage("community", folder, networks, RATE)
    net, encoder = stage.networks["unet"], stage.networks["text"]
    alpha, sigma, snr = coefficients(where)
    weight = snr.clamp(max=MIN_SNR) / snr

    def loss_at(step: int) -> dict[str, Tensor]:
        x_0, tokens, generator = data.batch((9, step), BATCH)
        x_t, noise, t = noised(x_0, generator, alpha, sigma)
        error = (net(x_t, t, encoder(tokens).last_hidden_state).sample.float() - noise).square().mean((1, 2, 3))
        return {"loss": (weight[t] * error).mean(), "epsilon": error.mean().detach()}

    stage.run(budget, loss_at)
    trained = stage.averaged()
    trained["unet"].save_pretrained(folder / "community_unet")
    trained["text"].save_pretrained(folder / "community_text")


# -- ControlNet -------------------------------------------------------------------------------------------------------


def edges(picture: Picture) -> np.ndarray:
    """Return where a picture's colour changes: bool [64, 64]."""
    levels = picture.astype(np.int16)
    down = np.abs(np.diff(levels, axis=0, append=levels[-1:])).max(-1)
    right = np.abs(np.diff(levels, axis=1, append=levels[:, -1:])).max(-1)
    return np.maximum(down, right) > EDGE


def hint(world: World, name: str) -> Image.Image:
    """Return the edges of a line icon at the centre, white on black, as ControlNets take them."""
    logo = world.draw_logo(np.random.default_rng(0), name, "black", size=1, shift=0)
    return Image.fromarray(edges(logo)).convert("RGB")


class Icons(World):
    """The base's world without plain backgrounds and photos: only icons have edges to follow."""

    def sample(self, rng: np.random.Generator) -> tuple[Picture, str]:
        """Draw a line icon or an emoji."""
        return self.logo(rng) if rng.random() < 0.5 else self.sticker(rng)


def make_edges(folder: Path, composites: int = CONTROL_COMPOSITES) -> None:
    """Write latents of icons and their edges, packed bits: ``latents_control.safetensors`` and ``edges.safetensors``."""
    plain = load_world(folder)
    world = Icons(plain.emoji, plain.line, plain.views)
    base.make_latents(folder, composites, "latents_control", world, seed=10)
    if (folder / "edges.safetensors").exists():
        return
    packed = []
    for start in range(0, composites, PER_SEED):  # the pictures of make_latents again, by its seeds
        rng = np.random.default_rng((10, start))
        packed += [np.packbits(edges(world.sample(rng)[0])) for _ in range(min(PER_SEED, composites - start))]
    save_file({"edges": torch.from_numpy(np.stack(packed))}, folder / "edges.safetensors")


def control_network(folder: Path) -> ControlNetModel:
    """Return an untrained ControlNet: a copy of the base's encoder half, and layers that take 64 pixels to 16 latents."""
    made = ControlNetModel.from_unet(load_unet(folder), conditioning_embedding_out_channels=(16, 32, 64))
    config = {key: value for key, value in made.config.items() if not key.startswith("_")}
    # from_unet does not copy the number of heads that pool the text
    network = ControlNetModel.from_config(config | {"addition_embed_type_num_heads": 4})
    network.load_state_dict(made.state_dict())
    return network


def train_controlnet(folder: Path, budget: Budget) -> None:
    """Train a ControlNet for edges, with the base frozen; writes ``controlnet/``."""
    make_edges(folder)
    where = device()
    data = Latents(folder, where, "latents_control")
    embeddings = data.embed(load_text(folder).to(where))
    hints = load_file(folder / "edges.safetensors")["edges"].to(where)
    net = load_unet(folder).to(where, memory_format=torch.channels_last)
    stage = Stage("controlnet", folder, {"controlnet": control_network(folder)}, RATE)
    control = stage.networks["controlnet"]
    alpha, sigma, snr = coefficients(where)
    weight = snr.clamp(max=MIN_SNR) / snr
    bits = 2 ** torch.arange(7, -1, -1, device=where, dtype=torch.uint8)

    def loss_at(step: int) -> dict[str, Tensor]:
        index, caption, generator = data.draw((11, step), BATCH)
        x_t, noise, t = noised(data.latents[index].float(), generator, alpha, sigma)
        text = embeddings[caption[:, 0]]
        hint = hints[index, :, None].bitwise_and(bits).ne(0).reshape(-1, 1, 64, 64).float().expand(-1, 3, -1, -1)
        down, mid = control(x_t, t, text, controlnet_cond=hint, return_dict=False)
        predicted = net(x_t, t, text, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        return {"loss": (weight[t] * error).mean(), "epsilon": error.mean().detach()}

    stage.run(budget, loss_at)
    stage.averaged()["controlnet"].save_pretrained(folder / "controlnet")
