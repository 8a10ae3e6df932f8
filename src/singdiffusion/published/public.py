"""Modules that others publish on the hub, by latent space: the table behind ``SingDiffusion.for_pipeline`` and ``--module auto``.

Within a latent space the first one is taken. Each brings text encoders of its own, so it serves models with any text encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..modules.config import Latents
from .base import SD_LATENTS, SDXL_LATENTS


@dataclass(frozen=True)
class PublicModule:
    """A module on the hub.

    Attributes:
        hub_id: "owner/name".
        makers: who made it.
        serves: models with its latent space, in words.
        latents: the latent space.
        text: its text encoders, in words.
    """

    hub_id: str
    makers: str
    serves: str
    latents: Latents
    text: str

    @property
    def page(self) -> str:
        """Address of its page, which has its terms."""
        return f"https://huggingface.co/{self.hub_id}"


_SD, _SDXL = "Stable Diffusion 1 and 2", "SDXL"

PUBLIC = (
    PublicModule("h1t/oms_b_openclip_15_21", "OneMoreStep", _SD, SD_LATENTS, "OpenCLIP, width 1024"),
    PublicModule("h1t/oms_b_openclip_xl", "OneMoreStep", _SDXL, SDXL_LATENTS, "OpenCLIP, width 1024"),
    PublicModule("h1t/oms_l_mixclip_xl", "OneMoreStep", _SDXL, SDXL_LATENTS, "both of SDXL's, width 2048"),
)
