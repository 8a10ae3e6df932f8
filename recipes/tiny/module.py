"""Stage 4: the module, a TimeFreeUNet fitted to E[x_0 | prompt] by x-prediction at t = 1 ([SD] section 4)."""

from pathlib import Path

import torch
from torch import Tensor

from singdiffusion.modules.unet import TimeFreeUNet

from . import base, text
from .base import Latents, load_text
from .training import Budget, Stage, device

BATCH = 64
RATE = 1e-3


def network() -> TimeFreeUNet:
    """A fifth of the base's parameters: what it has to tell is mostly low-frequency."""
    torch.manual_seed(3)
    return TimeFreeUNet(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=text.WIDTH,
        norm_num_groups=16,
    )


def train(folder: Path, budget: Budget) -> None:
    """L = E |f(x_1, prompt) - y|^2 with x_1 ~ N(0, I), the base's text encoder frozen, its U-Net not even loaded."""
    base.make_latents(folder)
    where = device()
    data = Latents(folder, where)
    embeddings = data.embed(load_text(folder).to(where))
    stage = Stage("module", folder, {"module": network()}, RATE)
    net = stage.networks["module"]

    def loss_at(step: int) -> dict[str, Tensor]:
        y, caption, generator = data.batch((6, step), BATCH)
        x_1 = torch.randn(y.shape, generator=generator, device=where)
        y_bar = net.predict(x_1.contiguous(memory_format=torch.channels_last), embeddings[caption[:, 0]]).float()
        channel_mean = (y_bar.mean((2, 3)) - y.mean((2, 3))).square().mean()
        return {"loss": (y_bar - y).square().mean(), "channel_mean": channel_mean.detach()}

    stage.run(budget, loss_at)
    stage.averaged()["module"].save_pretrained(folder / "module")
