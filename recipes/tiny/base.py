"""Stages 2 and 3: latents of the training pictures, computed once; then the base, text encoder and U-Net trained together."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from singdiffusion.compat import transformers_dtype
from singdiffusion.core.schedule import Schedule

from . import text, vae
from .pictures import PER_SEED, World, load_world
from .training import Budget, Stage, device

COMPOSITES = 60_000  # training pictures
BATCH = 96
RATE = 8e-4
DROPOUT = 0.1  # share of captions replaced by "", for classifier-free guidance
MIN_SNR = 5.0  # gamma of Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", ICCV 2023, arXiv 2303.09556
RESOLUTION_RATIO = 64 / 16  # SD-1.5's latents are 64 wide, ours 16


def schedule() -> Schedule:
    """Return SD-1.5's schedule with its SNR times 4^2, which gives a smaller picture the flaw at SD-1.5's strength."""
    return Schedule.named("sd15").shift(RESOLUTION_RATIO)


def coefficients(where: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return alpha, sigma and SNR of the 1000 timesteps, float32 [1000] each."""
    plan, steps = schedule(), torch.arange(1000)
    return tuple(f(steps).float().to(where) for f in (plan.alpha, plan.sigma, plan.snr))  # type: ignore[return-value]


def noised(x_0: Tensor, generator: torch.Generator, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_t (channels_last), its noise and t; t is random, one per picture."""
    t = torch.randint(0, 1000, (len(x_0),), generator=generator, device=x_0.device)
    noise = torch.randn(x_0.shape, generator=generator, device=x_0.device)
    x_t = alpha[t, None, None, None] * x_0 + sigma[t, None, None, None] * noise
    return x_t.contiguous(memory_format=torch.channels_last), noise, t


def scheduler() -> DDIMScheduler:
    """Return a scheduler with this schedule and SD-1.5's sampling configuration."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        trained_betas=schedule().betas.tolist(),
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        timestep_spacing="leading",
    )


def unet() -> UNet2DConditionModel:
    """Return an untrained U-Net: convolutions at 16 x 16 and 8 x 8, attention to the text at 4 x 4.

    Attention at the lowest resolution reaches few layers. So the pooled text is also added to the embedding of the
    timestep (``addition_embed_type="text"`` of diffusers), which every layer receives.
    """
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 160),
        layers_per_block=1,
        attention_head_dim=4,  # here diffusers means the number of heads
        cross_attention_dim=text.WIDTH,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def make_latents(
    folder: Path, composites: int = COMPOSITES, name: str = "latents", world: World | None = None, seed: int = 4
) -> None:
    """Draw pictures, fit the tokenizer to their captions if there is none, and write their latents and token ids.

    Args:
        folder: the working folder; gets ``NAME.safetensors``, and nothing happens where that exists.
        composites: number of pictures.
        name: of the file.
        world: what to draw from; by default the base's.
        seed: of the pictures.
    """
    if (folder / f"{name}.safetensors").exists():
        return
    world, where = world or load_world(folder), device()
    autoencoder = vae.load(folder).to(where, memory_format=torch.channels_last)
    scale = autoencoder.config["scaling_factor"]
    captions: list[str] = []
    latents = torch.empty(composites, 4, 16, 16, dtype=torch.float16)
    for start in range(0, composites, PER_SEED):
        x, words = vae.pixels(world, (seed, start), min(PER_SEED, composites - start), where)
        with torch.no_grad(), torch.autocast(where.type, torch.bfloat16):
            mean = autoencoder.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        latents[start : start + len(words)] = (mean.float() * scale).cpu()
        captions += words
        if start % 10_000 == 0:
            print(f"latents: {start} of {composites}", flush=True)
    tokenizer = text.tokenizer(folder / "tokenizer", captions)
    tokens = text.ids(tokenizer, captions)
    if not torch.isfinite(latents).all():
        raise SystemExit("error: the autoencoder returned latents that are not finite")
    partial = folder / f"{name}.partial"
    save_file({"latents": latents, "tokens": tokens}, partial)
    partial.replace(folder / f"{name}.safetensors")


class Latents:
    """The stored latents [N, 4, 16, 16] (scaled) and token ids [N, L] of training pictures, and batches of them.

    Args:
        folder: the working folder.
        where: device of the tensors.
        name: of the file, as for ``make_latents``.
    """

    def __init__(self, folder: Path, where: torch.device, name: str = "latents"):
        stored = load_file(folder / f"{name}.safetensors")
        self.latents, self.tokens = stored["latents"].to(where), stored["tokens"].to(where)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.empty = text.ids(self.tokenizer, [""]).to(where)
        self.where = where

    @torch.no_grad()
    def embed(self, encoder: CLIPTextModel) -> Tensor:
        """Return embeddings [M, L, D] of the distinct captions by a frozen encoder.

        Afterwards ``draw`` and ``batch`` return row numbers [B, 1] of these embeddings in place of token ids.
        """
        distinct, row = torch.unique(torch.cat([self.empty, self.tokens]), dim=0, return_inverse=True)
        self.tokens, self.empty = row[1:, None], row[:1, None]
        return torch.cat([encoder(part).last_hidden_state for part in distinct.split(512)])

    def draw(self, seed: tuple[int, ...], count: int) -> tuple[Tensor, Tensor, torch.Generator]:
        """Return indices [B] of random pictures, token ids [B, L] of their captions, and a generator for further draws.

        Some captions, a share of ``DROPOUT``, are replaced by the empty one.
        """
        rng = np.random.default_rng(seed)
        index = torch.from_numpy(rng.integers(0, len(self.latents), count)).to(self.where)
        dropped = torch.from_numpy(rng.random(count) < DROPOUT).to(self.where)
        tokens = torch.where(dropped[:, None], self.empty, self.tokens[index])
        return index, tokens, torch.Generator(self.where).manual_seed(int(rng.integers(2**62)))

    def batch(self, seed: tuple[int, ...], count: int) -> tuple[Tensor, Tensor, torch.Generator]:
        """Return what ``draw`` returns, with latents, float32 [B, 4, 16, 16], in place of indices."""
        index, tokens, generator = self.draw(seed, count)
        return self.latents[index].float(), tokens, generator


def train(folder: Path, budget: Budget) -> None:
    """Train the base by epsilon-prediction with min-SNR weights; writes ``unet/`` and ``text_encoder/`` in diffusers' layout.

    Training starts from these two where they exist without a checkpoint, as in a folder that ``adopt`` made.
    """
    make_latents(folder)
    where = device()
    data = Latents(folder, where)
    adopted = (folder / "unet").exists() and not (folder / "base.ckpt").exists()
    networks = {
        "unet": load_unet(folder).requires_grad_(True) if adopted else unet(),
        "text": load_text(folder).requires_grad_(True) if adopted else text.encoder(data.tokenizer),
    }
    stage = Stage("base", folder, networks, RATE)
    net, encoder = stage.networks["unet"], stage.networks["text"]
    alpha, sigma, snr = coefficients(where)
    weight = snr.clamp(max=MIN_SNR) / snr  # for the squared error of epsilon

    def loss_at(step: int) -> dict[str, Tensor]:
        x_0, tokens, generator = data.batch((5, step), BATCH)
        x_t, noise, t = noised(x_0, generator, alpha, sigma)
        predicted = net(x_t, t, encoder(tokens).last_hidden_state).sample
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        late = error[t > 900].mean() if bool((t > 900).any()) else error.mean()
        return {"loss": (weight[t] * error).mean(), "epsilon": error.mean().detach(), "above900": late.detach()}

    stage.run(budget, loss_at)
    trained = stage.averaged()
    trained["unet"].save_pretrained(folder / "unet")
    trained["text"].save_pretrained(folder / "text_encoder")


def load_text(folder: Path) -> CLIPTextModel:
    """Return the trained text encoder of this folder, frozen."""
    if not (folder / "text_encoder").exists():
        raise SystemExit(f"error: no trained text encoder in {folder}; run the stage `base` first")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", **transformers_dtype(torch.float32))
    return encoder.eval().requires_grad_(False)


def load_unet(folder: Path) -> UNet2DConditionModel:
    """Return the trained U-Net of this folder, frozen."""
    if not (folder / "unet").exists():
        raise SystemExit(f"error: no trained U-Net in {folder}; run the stage `base` first")
    return UNet2DConditionModel.from_pretrained(folder / "unet").eval().requires_grad_(False)


def pipeline(folder: Path) -> StableDiffusionPipeline:
    """Return the trained base of a working folder, in float32."""
    return StableDiffusionPipeline(
        vae=vae.load(folder),
        text_encoder=load_text(folder),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=load_unet(folder),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
