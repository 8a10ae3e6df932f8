"""A network that never sees the noise: E[x_0 | prompt] does not depend on x_1, so the prompt alone is enough."""

from __future__ import annotations

import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from ..core.dct import from_low_frequencies, low_frequencies
from ..errors import SingDiffusionError


class MeanDecoder(ModelMixin, ConfigMixin):
    """The mean picture of a prompt, and how it varies, from the prompt's embeddings: a small transformer decoder.

    Learned queries look at the prompt and at each other; each becomes ``patch`` x ``patch`` cells of a coarse picture of ``grid`` x
    ``grid``, whose cosines are those of the latents' lowest frequencies; so it serves any height and width. Amplitudes are DCT
    coefficients over sqrt(H W): they do not grow with the picture.

    Args:
        latent_channels: C.
        cross_attention_dim: width D of the prompt embeddings.
        grid: frequencies a side of the mean.
        patch: cells a side that one query tells; the cost falls with its square.
        variances: frequencies a side, k, whose variance it tells as well; 0: none.
        width, layers, heads: of the transformer.

    Raises:
        SingDiffusionError: ``variances`` is more than ``grid``, ``patch`` does not divide it, or ``heads`` not ``width``.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        cross_attention_dim: int = 768,
        grid: int = 16,
        patch: int = 4,
        variances: int = 0,
        width: int = 256,
        layers: int = 4,
        heads: int = 4,
    ):
        super().__init__()
        if not 0 <= variances <= grid:
            raise SingDiffusionError(f"variances must be within 0..{grid}, the decoder's grid, not {variances}")
        for name, part, whole_name, whole in (("heads", heads, "width", width), ("patch", patch, "grid", grid)):
            if part < 1 or whole % part:
                raise SingDiffusionError(f"{name} must divide {whole_name}: {part} does not divide {whole}")
        self.queries = nn.Parameter(torch.randn((grid // patch) ** 2, width) / math.sqrt(width))
        self.text_in = nn.Sequential(
            nn.LayerNorm(cross_attention_dim), nn.Linear(cross_attention_dim, width), nn.LayerNorm(width)
        )
        self.blocks = nn.ModuleList(
            BasicTransformerBlock(width, heads, width // heads, cross_attention_dim=width) for _ in range(layers)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent_channels * patch * patch))
        nn.init.zeros_(self.out[1].weight)  # the mean picture is average grey until it has learnt better
        nn.init.zeros_(self.out[1].bias)
        if variances:
            self.variance_out = nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, latent_channels * variances**2),
            )
        self.gradient_checkpointing = False

    def forward(self, prompt_embeds: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, L, D) -> amplitudes of the mean (B, C, grid, grid), log-variances of the lowest (B, C, k, k) or None."""
        text = self.text_in(prompt_embeds)
        hidden = self.queries.expand(len(text), -1, -1)
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden = self._gradient_checkpointing_func(block, hidden, None, text)  # type: ignore[misc]
            else:
                hidden = block(hidden, encoder_hidden_states=text)
        size, channels = self.config.grid, self.config.latent_channels
        amplitudes = low_frequencies(self._joined(self.out(hidden).float()), size) / size
        if not self.config.variances:
            return amplitudes, None
        k = self.config.variances
        return amplitudes, self.variance_out(hidden.mean(1)).float().reshape(-1, channels, k, k)

    def _joined(self, patches: Tensor) -> Tensor:
        """What each query says, (B, n n, C patch patch), as one picture (B, C, grid, grid)."""
        patch, channels = self.config.patch, self.config.latent_channels
        n = self.config.grid // patch
        parts = patches.reshape(-1, n, n, channels, patch, patch)
        return parts.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, n * patch, n * patch)

    def predict(self, x_1: Tensor, prompt_embeds: Tensor) -> Tensor:
        """y_bar = E[x_0 | prompt], in the units of the base's scaled latents; of ``x_1`` only the shape is looked at.

        Args:
            x_1: noise, shape (B, C, H, W), H and W at least ``grid``.
            prompt_embeds: the text encoder's last hidden states, shape (B, L, D).

        Returns:
            Shape (B, C, H, W), the dtype of ``x_1``.
        """
        return self.mean(self(prompt_embeds)[0], *x_1.shape[-2:]).to(x_1.dtype)

    def predict_moments(self, x_1: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """y_bar as ``predict`` gives it, and the variances (B, C, k, k) of the lowest DCT coefficients of x_0, float32.

        Raises:
            SingDiffusionError: the decoder was made without ``variances``.
        """
        amplitudes, log_variance = self(prompt_embeds)
        if log_variance is None:
            raise SingDiffusionError("this decoder tells no variances: it was made with variances=0")
        height, width = x_1.shape[-2:]
        return self.mean(amplitudes, height, width).to(x_1.dtype), log_variance.exp() * (height * width)

    @staticmethod
    def mean(amplitudes: Tensor, height: int, width: int) -> Tensor:
        """Amplitudes (B, C, k, k) -> the picture (B, C, height, width) of these frequencies; those beyond its size are left out."""
        amplitudes = amplitudes[..., :height, :width]
        return from_low_frequencies(amplitudes * math.sqrt(height * width), height, width)
