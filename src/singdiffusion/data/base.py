"""The parts of a base model that encoding needs: its VAE, its tokenizers and its text encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import SingDiffusionError
from ..modules.text import fingerprint
from ..plugin.vae import mean_latents

LONGEST_TEXT = 512  # tokens; a T5 tokenizer names no length of its own


@dataclass
class Base:
    """The parts of a base model that make latents and token ids.

    Attributes:
        name: of the base model, for messages and the manifest.
        vae: its autoencoder.
        tokenizers: one, or two for SDXL.
        text_encoders: one per tokenizer.
    """

    name: str
    vae: Any
    tokenizers: list[Any]
    text_encoders: list[Any]

    @classmethod
    def of(cls, pipe: Any, name: str) -> Base:
        """Take the parts of a diffusers pipeline.

        Raises:
            SingDiffusionError: the pipeline has no VAE or no tokenizer.
        """
        parts = lambda kind: [part for n in (kind, f"{kind}_2") if (part := getattr(pipe, n, None)) is not None]  # noqa: E731
        if getattr(pipe, "vae", None) is None or not parts("tokenizer"):
            raise SingDiffusionError(f"{name} has no VAE or no tokenizer, and encoding needs both")
        return cls(name, pipe.vae.eval(), parts("tokenizer"), parts("text_encoder"))

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for latents and token ids of two runs to belong together."""
        config = self.vae.config
        return {
            "name": self.name,
            "latent_channels": config.latent_channels,
            "vae_scaling_factor": float(config.scaling_factor),
            "vae_shift_factor": config.get("shift_factor"),
            "vae_fingerprint": self._vae_fingerprint(),
            "vae_scale": self.scale,
            "text_width": sum(encoder.config.hidden_size for encoder in self.text_encoders),
            "text_fingerprint": [v for encoder in self.text_encoders for v in fingerprint(encoder)],
            "tokens": [self._length(tokenizer) for tokenizer in self.tokenizers],
        }

    @property
    def scale(self) -> int:
        """Pixels per latent and side: 8 for Stable Diffusion."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latents(self, rgb: Tensor) -> Tensor:
        """Return the means of the VAE's posterior, shifted and scaled as the base does it.

        Args:
            rgb: uint8 (B, H, W, 3).

        Returns:
            float32 (B, C, H / scale, W / scale).

        Raises:
            SingDiffusionError: a latent is NaN or infinite.
        """
        found = mean_latents(rgb.permute(0, 3, 1, 2).float() / 127.5 - 1, self.vae)
        if not torch.isfinite(found).all():
            raise SingDiffusionError(
                "the VAE returned NaN or infinite latents; dtype must be float32 or bfloat16", "dtype"
            )
        return found

    def tokens(self, captions: list[str]) -> list[Tensor]:
        """Return token ids, one tensor int32 (B, L) per tokenizer, padded and cut to its length."""
        return [
            tokenizer(
                captions, padding="max_length", max_length=self._length(tokenizer), truncation=True, return_tensors="pt"
            ).input_ids.int()
            for tokenizer in self.tokenizers
        ]

    @staticmethod
    def _length(tokenizer: Any) -> int:
        return min(tokenizer.model_max_length, LONGEST_TEXT)

    def _vae_fingerprint(self) -> list[float]:
        """Return 16 latents of a fixed picture: two VAEs with the same ones are taken for the same."""
        side = 4 * self.scale
        ramp = torch.arange(side * side * 3).remainder(251).reshape(1, side, side, 3).to(torch.uint8)
        return [round(float(v), 4) for v in self.latents(ramp).flatten()[:16]]
