"""Signal leak: N(0, I) with the trace of a picture that training left in x_T, drawn from statistics of all data, whatever the prompt.

    x_T = alpha_T leak + sigma_T noise,   leak ~ N(mean, covariance) of x_0          (Everaert et al., WACV 2024, arXiv 2309.15842)

The leak is that of the paper's low frequencies, the 4 x 4 lowest of the DCT: their means, and a covariance between channels for each. Left out
are correlations between frequencies and the variance of the high ones, which is small beside the noise's. The sum of leak and noise
is drawn as one stretched noise (``core.singular.first_step``), so that a seed keeps its meaning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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
from ..digests import weights_digest
from .plugged import plugged, refusal


@dataclass(frozen=True)
class Statistics:
    """Of a latent space's pictures. Amplitudes are DCT coefficients over sqrt(H W): they do not grow with the picture.

    Attributes:
        mean: of the amplitudes, float32 (C, k, k).
        covariance: between their channels, float32 (k, k, C, C).
        base: what ``data.encode.Base.identity`` says of the latent space.
    """

    mean: Tensor
    covariance: Tensor
    base: dict[str, Any]

    @classmethod
    def of_latents(cls, latents: Tensor, base: dict[str, Any]) -> Statistics:
        """Of latents (N, C, H, W)."""
        low = low_frequencies(latents.double(), STATISTICS) / math.sqrt(latents.shape[-2] * latents.shape[-1])
        off = low - low.mean(0)
        return cls(low.mean(0).float(), (torch.einsum("nchw,ndhw->hwcd", off, off) / len(low)).float(), base)

    @classmethod
    def of_embedded(cls, pipe: Any) -> Statistics:
        """Of the pictures that come with the embedded models, through their VAE."""
        base = Base.of(pipe, "tiny")
        latents = torch.cat([base.latents(part.permute(0, 2, 3, 1)) for part in tiny.pictures().drawn.split(64)])
        return cls.of_latents(latents, base.identity())

    @classmethod
    def of_folder(cls, folder: Path) -> Statistics:
        """From the manifest of a folder that ``singdiffusion encode`` wrote.

        One from before covariances were kept tells variances only: then channels are drawn independently, which makes colours that no
        picture has.

        Raises:
            SingDiffusionError: there is no manifest, or it is damaged.
        """
        file = folder / MANIFEST
        try:
            told = json.loads(file.read_text())
            side = told["options"]["size"] // told["base"]["vae_scale"]
            mean = torch.tensor(told["low_frequency_mean"], dtype=torch.float64)
            if "low_frequency_covariance" in told:
                covariance = torch.tensor(told["low_frequency_covariance"], dtype=torch.float64)
            else:
                covariance = torch.tensor(told["low_frequency_variance"], dtype=torch.float64).permute(1, 2, 0)
                covariance = torch.diag_embed(covariance)
            return cls((mean / side).float(), (covariance / side**2).float(), told["base"])
        except OSError as error:
            raise SingDiffusionError(
                f"there is no {MANIFEST} in {folder}: singdiffusion encode writes one, of captioned pictures"
            ) from error
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise SingDiffusionError(f"{file} is damaged: encode again") from error


class _AnyPicture(nn.Module):
    """What a module says that knows all data and hears no prompt; ``SingDiffusion`` takes it for one of its own."""

    predicts_covariance = True

    def __init__(self, statistics: Statistics):
        super().__init__()
        self.mean = nn.Parameter(statistics.mean, requires_grad=False)
        self.covariance = nn.Parameter(statistics.covariance, requires_grad=False)

    def predict_moments(self, x_1: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, C, H, W) and covariance (B, k, k, C, C) of x_0."""
        count, (height, width) = len(x_1), x_1.shape[-2:]
        mean = from_low_frequencies(self.mean[:, :height, :width] * math.sqrt(height * width), height, width)
        return mean.expand_as(x_1), self.covariance.expand(count, -1, -1, -1, -1) * (height * width)


class SignalLeak:
    """The signal leak of all data.

    Args:
        statistics: of the latents that the base was trained on.
    """

    name, title, needs = "signal-leak", "signal leak, no prompt", "statistics of the data's latents"

    def __init__(self, statistics: Statistics):
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
            text_width=denoiser.get("caption_channels") or denoiser.cross_attention_dim,  # any text: it is not heard
            guidance_scale=1.0,  # nor is guidance, which has nothing to tell apart
        )
        with plugged(SingDiffusion(SingModule(self.module, config)), pipe) as options:
            yield options

    def networks(self) -> list[Any]:
        return [self.module]
