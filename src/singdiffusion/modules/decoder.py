"""``MeanDecoder``: a network whose only input is the prompt. E[x_0 | prompt] does not depend on x_1, so it needs no noise."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..core.covariance import factor_count, from_factors
from ..core.dct import from_low_frequencies, low_frequencies
from ..errors import SingDiffusionError
from .config import network_options
from .limits import right_size
from .weights import WEIGHTS

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"cross_attention_dim": 128, "width": 384, "layers": 2},
    "sd15": {"cross_attention_dim": 768, "width": 768, "layers": 2},
    "sdxl": {"cross_attention_dim": 2048, "width": 1024, "layers": 3},
}
"""Arguments of ``MeanDecoder`` by base. A trained ``tiny`` comes with the package; the others are for ``singdiffusion train``."""


class MeanDecoder(nn.Module):
    """Predicts mean and covariance of the pictures of a prompt from the prompt's embeddings, by a residual perceptron.

    Its input is the last embedding, which a causal text encoder computes from the whole prompt, and the mean of all
    embeddings. Its output is the lowest frequencies of the latents, so it works at any height and width. It predicts
    amplitudes, DCT coefficients divided by sqrt(H W), which do not grow with the picture.

    It needs torch and safetensors only. Its files have diffusers' names: ``config.json`` and
    ``diffusion_pytorch_model.safetensors``.

    Args:
        latent_channels: C.
        cross_attention_dim: width D of the prompt embeddings.
        grid: frequencies per side of the mean.
        covariance_grid: frequencies per side, k, for which it also predicts the covariance; 0: for none.
        width: of the perceptron's hidden state.
        layers: number of residual blocks.

    Attributes:
        config: the arguments above, by name.

    Raises:
        SingDiffusionError: a number is not a whole one of at least 1, or is absurdly large; or ``covariance_grid`` is not within 0..``grid``.
    """

    def __init__(
        self,
        latent_channels: int = 4,
        cross_attention_dim: int = 768,
        grid: int = 16,
        covariance_grid: int = 0,
        width: int = 512,
        layers: int = 2,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "latent_channels": latent_channels,
            "cross_attention_dim": cross_attention_dim,
            "grid": grid,
            "covariance_grid": covariance_grid,
            "width": width,
            "layers": layers,
        }
        _require_sizes(self.config)
        self.text_in = nn.Sequential(nn.LayerNorm(2 * cross_attention_dim), nn.Linear(2 * cross_attention_dim, width))
        self.blocks = nn.ModuleList(_perceptron(width, 2 * width, width) for _ in range(layers))
        self.mean_out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent_channels * grid**2))
        nn.init.zeros_(self.mean_out[1].weight)  # an untrained decoder predicts average grey
        nn.init.zeros_(self.mean_out[1].bias)
        if covariance_grid:
            self.covariance_out = _perceptron(width, width, factor_count(latent_channels) * covariance_grid**2)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> MeanDecoder:
        """Return a new decoder with the arguments of a preset, some of them changed.

        Args:
            name: one of ``PRESETS``.
            changes: arguments that differ from the preset's.

        Raises:
            SingDiffusionError: there is no such preset.
        """
        return cls(**(preset_options(name) | changes))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MeanDecoder:
        """Return a new decoder of a configuration; keys that begin with "_" are ignored, as in diffusers.

        Raises:
            SingDiffusionError: a key is unknown, or a value is wrong.
        """
        options, known = network_options(config), list(inspect.signature(cls).parameters)
        unknown = [key for key in options if key not in known]
        if unknown:
            raise SingDiffusionError(f"unknown setting {unknown[0]!r} of a MeanDecoder; known: {', '.join(known)}")
        return cls(**options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and the weights into a folder; make the folder if it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": "MeanDecoder", **self.config}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        weights = {key: value.detach().contiguous() for key, value in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS, {"format": "pt"})

    def forward(self, prompt_embeds: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return amplitudes of the mean, and factors of the covariance of the lowest frequencies.

        Args:
            prompt_embeds: the text encoder's last hidden states, shape (B, L, D).

        Returns:
            Amplitudes (B, C, grid, grid); factors (B, C (C + 1) / 2, k, k) as in ``core.covariance``, or None.
        """
        hidden = self.features(prompt_embeds)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        grid, k = self.config["grid"], self.config["covariance_grid"]
        # the layer's output is a coarse picture, because training fits that faster than DCT coefficients
        cells = self.mean_out(hidden).float().unflatten(-1, (-1, grid, grid))
        mean = low_frequencies(cells, grid) / grid
        if not k:
            return mean, None
        # detached, so that the loss of the covariance does not change the features of the mean
        return mean, self.covariance_out(hidden.detach()).float().unflatten(-1, (-1, k, k))

    def features(self, prompt_embeds: Tensor) -> Tensor:
        """Return the first hidden state (B, width) of prompt embeddings (B, L, D)."""
        return self.text_in(torch.cat([prompt_embeds[:, -1], prompt_embeds.mean(1)], -1))

    @property
    def predicts_covariance(self) -> bool:
        """Whether ``predict_moments`` works."""
        return self.config["covariance_grid"] > 0

    def predict(self, x_1: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Return y_bar = E[x_0 | prompt] in the base's scaled latents.

        Args:
            x_1: noise, shape (B, C, H, W), of which only shape and dtype are used. Frequencies above H or W are left out.
            prompt_embeds: the text encoder's last hidden states, shape (B, L, D).

        Returns:
            Shape (B, C, H, W), in the dtype of ``x_1``.
        """
        return self.mean(self(prompt_embeds)[0], *x_1.shape[-2:]).to(x_1.dtype)

    def predict_moments(self, x_1: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Return y_bar and the covariance of the lowest DCT coefficients of x_0.

        Args:
            x_1: as for ``predict``.
            prompt_embeds: as for ``predict``.

        Returns:
            y_bar as from ``predict``; the covariance, float32, shape (B, k, k, C, C).

        Raises:
            SingDiffusionError: the decoder has no ``covariance_grid``.
        """
        amplitudes, factors = self(prompt_embeds)
        if factors is None:
            raise SingDiffusionError("this decoder predicts no covariance: its covariance_grid is 0")
        height, width = x_1.shape[-2:]
        return self.mean(amplitudes, height, width).to(x_1.dtype), from_factors(factors) * (height * width)

    @staticmethod
    def mean(amplitudes: Tensor, height: int, width: int) -> Tensor:
        """Return pictures (B, C, height, width) of amplitudes (B, C, k, k); frequencies beyond their size are left out."""
        amplitudes = amplitudes[..., :height, :width]
        return from_low_frequencies(amplitudes * math.sqrt(height * width), height, width)


def preset_options(name: str) -> dict[str, Any]:
    """Return the arguments of ``MeanDecoder`` for a preset.

    Raises:
        SingDiffusionError: there is no such preset.
    """
    if name not in PRESETS:
        raise SingDiffusionError(f"unknown decoder preset {name!r}; known: {', '.join(PRESETS)}")
    return dict(PRESETS[name])


def _require_sizes(config: Mapping[str, Any]) -> None:
    """Raise SingDiffusionError if a decoder of these arguments cannot be built."""
    for name, value in config.items():
        right = right_size(name, value)
        if right or value is None:
            raise SingDiffusionError(f"{name} must be {right or 'a whole number'}, not {value!r:.40}")
    grid, covariance_grid = config["grid"], config["covariance_grid"]
    if covariance_grid > grid:
        raise SingDiffusionError(f"covariance_grid must be within 0..{grid}, the decoder's grid, not {covariance_grid}")


def _perceptron(width: int, hidden: int, out: int) -> nn.Sequential:
    """Return layer norm, a hidden layer with GELU, and a linear output layer."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
