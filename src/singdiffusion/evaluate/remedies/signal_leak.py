"""Signal leak: N(0, I) plus the part of a picture that training left in x_T, drawn from statistics of all data, for any prompt.

    x_T = alpha_T leak + sigma_T noise,   leak ~ N(mean, covariance) of x_0

As in the paper the leak is in the low frequencies: the 4 x 4 lowest of the DCT have their means, and each a covariance between channels.
Correlations between frequencies are left out, and so is the variance of the high frequencies, which is small compared with the noise's.
Leak and noise are drawn together as one stretched noise (``core.singular.first_step``), so that a seed keeps its meaning.

Source: Everaert, Fitsios, Bocchio, Arpa, Süsstrunk, Achanta, "Exploiting the Signal-Leak Bias in Diffusion Models", WACV 2024,
arXiv 2309.15842.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ... import tiny
from ...core.dct import from_low_frequencies, low_frequencies
from ...data.base import Base
from ...data.manifest import MANIFEST, STATISTICS
from ...errors import SingDiffusionError
from ...modules import SingConfig, SingModule
from ...modules.text import same_fingerprint
from ...plugin import SingDiffusion
from ...plugin.pipelines import spec_of
from ...reading import read_json
from ..digests import weights_digest
from .plugged import plugged, refusal

MOST = 1e30  # of a coefficient; float32 holds it


_Number = Annotated[float, Field(ge=-MOST, le=MOST)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)  # no text for numbers


class _Base(_Strict):
    """What a manifest records of the base, as far as it is used here."""

    latent_channels: int = Field(ge=1)
    vae_scaling_factor: float = Field(gt=0, allow_inf_nan=False)
    vae_shift_factor: _Number | None = None
    vae_fingerprint: list[_Number]
    vae_scale: int = Field(ge=1)


class _Options(_Strict):
    size: int = Field(ge=1)


class _Manifest(_Strict):
    """What is used here of the manifest that ``encode`` writes."""

    options: _Options
    base: _Base
    low_frequency_mean: list[list[list[_Number]]]
    low_frequency_covariance: list[list[list[list[_Number]]]]

    def statistics(self) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Return the mean (C, k, k) and the covariance (k, k, C, C) of low frequencies, float64; None where they are not such."""
        try:
            mean = torch.tensor(self.low_frequency_mean, dtype=torch.float64)
            covariance = torch.tensor(self.low_frequency_covariance, dtype=torch.float64)
        except ValueError:  # lists of different lengths
            return None, None
        channels, k = self.base.latent_channels, mean.shape[-1]
        fits = mean.shape == (channels, k, k) and covariance.shape == (k, k, channels, channels) and k > 0
        if not fits:
            return None, None
        rounding = 1e-5 * float(covariance.abs().max())
        even = bool(((covariance - covariance.mT).abs() <= rounding).all())
        positive = bool((covariance.diagonal(dim1=2, dim2=3) >= -rounding).all())
        return (mean, covariance) if even and positive else (None, None)


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and covariance of a latent space's pictures. Amplitudes are DCT coefficients / sqrt(H W), which do not grow with the picture.

    Attributes:
        mean: of the amplitudes, float32 (C, k, k).
        covariance: between their channels, float32 (k, k, C, C).
        base: the latent space, as ``data.encode.Base.identity`` describes it.
    """

    mean: Tensor
    covariance: Tensor
    base: dict[str, Any]

    @classmethod
    def of_latents(cls, latents: Tensor, base: dict[str, Any]) -> LatentStatistics:
        """Compute them from latents (N, C, H, W)."""
        low = low_frequencies(latents.double(), STATISTICS) / math.sqrt(latents.shape[-2] * latents.shape[-1])
        off = low - low.mean(0)
        return cls(low.mean(0).float(), (torch.einsum("nchw,ndhw->hwcd", off, off) / len(low)).float(), base)

    @classmethod
    def of_embedded(cls, pipe: Any) -> LatentStatistics:
        """Compute them from the pictures that come with the embedded models, through their VAE."""
        base = Base.of(pipe, "tiny")
        latents = torch.cat([base.latents(part.permute(0, 2, 3, 1)) for part in tiny.pictures().drawn.split(64)])
        return cls.of_latents(latents, base.identity())

    @classmethod
    def of_folder(cls, folder: Path) -> LatentStatistics:
        """Read them from the manifest of a folder that ``singdiffusion encode`` wrote.

        Raises:
            SingDiffusionError: there is no manifest, or it is damaged: the message names the first key that is wrong.
        """
        file = folder / MANIFEST
        if not file.is_file():
            raise SingDiffusionError(
                f"there is no {MANIFEST} in {folder}: singdiffusion encode writes one, of captioned pictures",
                setting="statistics",
            )
        manifest = read_json(file, _Manifest)
        side = manifest.options.size // manifest.base.vae_scale
        mean, covariance = manifest.statistics()
        if side == 0 or mean is None or covariance is None:
            raise SingDiffusionError(f"{file} is damaged: its low frequencies are no mean and covariance; encode again")
        return cls((mean / side).float(), (covariance / side**2).float(), manifest.base.model_dump())


class _AnyPicture(nn.Module):
    """A network that predicts the moments of all data and ignores the prompt; ``SingDiffusion`` uses it like one of its own."""

    predicts_covariance = True

    def __init__(self, statistics: LatentStatistics):
        super().__init__()
        self.mean = nn.Parameter(statistics.mean, requires_grad=False)
        self.covariance = nn.Parameter(statistics.covariance, requires_grad=False)

    def predict_moments(self, x_1: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, C, H, W) and covariance (B, k, k, C, C) of x_0."""
        count, (height, width) = len(x_1), x_1.shape[-2:]
        mean = from_low_frequencies(self.mean[:, :height, :width] * math.sqrt(height * width), height, width)
        return mean.expand_as(x_1), self.covariance.expand(count, -1, -1, -1, -1) * (height * width)


class SignalLeak:
    """The signal leak of all data.

    Args:
        statistics: of the latents that the base was trained on.
    """

    name, title, needs = "signal-leak", "signal leak, no prompt", "statistics of the data's latents"

    def __init__(self, statistics: LatentStatistics):
        self.statistics = statistics
        self.module = _AnyPicture(statistics).eval()

    def unfit(self, pipe: Any) -> str | None:
        return refusal(pipe, self._fitting(pipe))

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": self.name, "statistics": weights_digest({"leak": self.module})}

    @contextmanager
    def _fitting(self, pipe: Any) -> Iterator[None]:
        theirs = Base.of(pipe, "the pipeline").identity()["vae_fingerprint"]
        if not same_fingerprint(theirs, self.statistics.base["vae_fingerprint"]):
            raise SingDiffusionError("the statistics are of another VAE's latents")
        with self.applied(pipe):
            yield

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[dict[str, Any]]:
        denoiser, base = getattr(pipe, spec_of(pipe).denoiser).config, self.statistics.base
        config = SingConfig(
            latent_channels=base["latent_channels"],
            vae_scaling_factor=base["vae_scaling_factor"],
            vae_shift_factor=base["vae_shift_factor"],
            text_width=denoiser.get("caption_channels") or denoiser.cross_attention_dim,  # any text: it is ignored
            guidance_scale=1.0,  # prompt and negative prompt have the same moments
        )
        with plugged(SingDiffusion(SingModule(self.module, config)), pipe) as options:
            yield options

    def networks(self) -> list[Any]:
        return [self.module]
