"""A network that never sees the noise: E[x_0 | prompt] does not depend on x_1, so the prompt alone is enough."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..core.covariance import factor_count, from_factors
from ..core.dct import from_low_frequencies, low_frequencies
from ..errors import SingDiffusionError

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"cross_attention_dim": 128, "width": 384, "layers": 2},
    "sd15": {"cross_attention_dim": 768, "width": 768, "layers": 2},
    "sdxl": {"cross_attention_dim": 2048, "width": 1024, "layers": 3},
}
"""Shapes by base: ``tiny`` is trained and ships, the others are for ``singdiffusion train``."""


class MeanDecoder(ModelMixin, ConfigMixin):
    """The mean picture of a prompt, and how it varies, from the prompt's embeddings: a residual perceptron.

    It takes the last embedding, in which a causal text encoder has heard the whole prompt, beside the mean of all, and tells the lowest
    frequencies of the latents; so it serves any height and width. Amplitudes are DCT coefficients over sqrt(H W): they do not grow
    with the picture. docs/performance.md compares it with transformers that look at every token.

    Args:
        latent_channels: C.
        cross_attention_dim: width D of the prompt embeddings.
        grid: frequencies a side of the mean.
        variances: frequencies a side, k, whose variance (and covariance between channels) it tells as well; 0: none.
        width: of the perceptron's hidden state.
        layers: its residual blocks.

    Raises:
        SingDiffusionError: ``variances`` is more than ``grid``, or a number is not positive.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        cross_attention_dim: int = 768,
        grid: int = 16,
        variances: int = 0,
        width: int = 512,
        layers: int = 2,
    ):
        super().__init__()
        for name, value in (("grid", grid), ("width", width), ("layers", layers)):
            if value < 1:
                raise SingDiffusionError(f"{name} must be at least 1, not {value}")
        if not 0 <= variances <= grid:
            raise SingDiffusionError(f"variances must be within 0..{grid}, the decoder's grid, not {variances}")
        self.text_in = nn.Sequential(nn.LayerNorm(2 * cross_attention_dim), nn.Linear(2 * cross_attention_dim, width))
        self.blocks = nn.ModuleList(_perceptron(width, 2 * width, width) for _ in range(layers))
        self.mean_out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent_channels * grid**2))
        nn.init.zeros_(self.mean_out[1].weight)  # the mean picture is average grey until it has learnt better
        nn.init.zeros_(self.mean_out[1].bias)
        if variances:
            self.covariance_out = _perceptron(width, width, factor_count(latent_channels) * variances**2)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> MeanDecoder:
        """A fresh decoder of a shape in ``PRESETS``, with changes.

        Raises:
            SingDiffusionError: there is no such preset.
        """
        return cls(**(preset_options(name) | changes))

    def forward(self, prompt_embeds: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, L, D) -> amplitudes of the mean (B, C, grid, grid), and the factors of the covariance of the lowest
        (B, C (C + 1) / 2, k, k), as ``core.covariance`` has them, or None."""
        hidden = self.features(prompt_embeds)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        grid, k = self.config.grid, self.config.variances
        cells = (
            self.mean_out(hidden).float().unflatten(-1, (-1, grid, grid))
        )  # a coarse picture learns faster than its cosines
        mean = low_frequencies(cells, grid) / grid
        if not k:
            return mean, None
        # the covariance is read off what serves the mean, and does not bend it
        return mean, self.covariance_out(hidden.detach()).float().unflatten(-1, (-1, k, k))

    def features(self, prompt_embeds: Tensor) -> Tensor:
        """What is heard of a prompt: embeddings (B, L, D) -> (B, width)."""
        return self.text_in(torch.cat([prompt_embeds[:, -1], prompt_embeds.mean(1)], -1))

    @property
    def tells_variances(self) -> bool:
        """Whether ``predict_moments`` works."""
        return self.config.variances > 0

    def predict(self, x_1: Tensor, prompt_embeds: Tensor) -> Tensor:
        """y_bar = E[x_0 | prompt], in the units of the base's scaled latents; of ``x_1`` only the shape is looked at.

        Args:
            x_1: noise, shape (B, C, H, W); frequencies that H or W is too small for are left out.
            prompt_embeds: the text encoder's last hidden states, shape (B, L, D).

        Returns:
            Shape (B, C, H, W), the dtype of ``x_1``.
        """
        return self.mean(self(prompt_embeds)[0], *x_1.shape[-2:]).to(x_1.dtype)

    def predict_moments(self, x_1: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """y_bar as ``predict`` gives it, and the covariance (B, k, k, C, C) of the lowest DCT coefficients of x_0, float32.

        Raises:
            SingDiffusionError: the decoder was made without ``variances``.
        """
        amplitudes, factors = self(prompt_embeds)
        if factors is None:
            raise SingDiffusionError("this decoder tells no variances: it was made with variances=0")
        height, width = x_1.shape[-2:]
        return self.mean(amplitudes, height, width).to(x_1.dtype), from_factors(factors) * (height * width)

    @staticmethod
    def mean(amplitudes: Tensor, height: int, width: int) -> Tensor:
        """Amplitudes (B, C, k, k) -> the picture (B, C, height, width) of these frequencies; those beyond its size are left out."""
        amplitudes = amplitudes[..., :height, :width]
        return from_low_frequencies(amplitudes * math.sqrt(height * width), height, width)


def preset_options(name: str) -> dict[str, Any]:
    """Arguments of ``MeanDecoder`` for a preset.

    Raises:
        SingDiffusionError: there is no such preset.
    """
    if name not in PRESETS:
        raise SingDiffusionError(f"unknown decoder preset {name!r}; known: {', '.join(PRESETS)}")
    return dict(PRESETS[name])


def _perceptron(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
