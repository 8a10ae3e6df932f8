"""The model that a module was trained for: its latent space and its text encoders; only these are downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .. import tiny
from ..errors import SingDiffusionError
from ..modules.config import Latents
from ..modules.layout import TEXT_PARTS
from ..reading import checked
from .parts import Text
from .places import Place, place_of, read_config

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"

SD_LATENTS = Latents(4, 0.18215)  # Stable Diffusion 1.x and 2.x
SDXL_LATENTS = Latents(4, 0.13025)


class _Vae(BaseModel):
    """The latent space in a VAE's configuration; the defaults are diffusers'."""

    model_config = ConfigDict(strict=True)

    latent_channels: int = Field(default=SD_LATENTS.channels, gt=0, le=2**24)
    scaling_factor: float = Field(default=SD_LATENTS.scaling, gt=0, allow_inf_nan=False)
    shift_factor: float | None = Field(default=None, allow_inf_nan=False)


@dataclass(frozen=True)
class Base:
    """A model in diffusers' layout."""

    place: Place

    @classmethod
    def named(cls, name: str | os.PathLike, **options: Any) -> Base:
        """Return the base of a folder, a hub id, or "tiny".

        Args:
            options: as for ``places.Repository``.

        Raises:
            SingDiffusionError: the name is a file's.
        """
        if str(name) in tiny.MODULES and str(name) not in tiny.MODELS:
            raise SingDiffusionError(f"{name} is a module; its base is tiny", setting="base")
        try:
            return cls(place_of(tiny.folder() if str(name) == "tiny" else name, "the base", **options))
        except SingDiffusionError as error:
            raise SingDiffusionError(str(error), setting="base") from error

    def latents(self) -> Latents:
        """Return the latent space, from the VAE's configuration.

        Raises:
            SingDiffusionError: the model has no VAE, or its configuration is wrong.
        """
        if "vae/config.json" not in self.place.names():
            raise SingDiffusionError(f"{self.place.name} is not a diffusers model: it has no vae/config.json", "base")
        try:
            vae = checked(read_config(self.place, "vae"), f"{self.place.name}/vae/config.json", _Vae)
        except SingDiffusionError as error:
            raise SingDiffusionError(str(error), setting="base") from error
        return Latents(vae.latent_channels, vae.scaling_factor, vae.shift_factor or 0.0)

    def text(self, variant: str | None = None, half: bool = False) -> Text:
        """Return its text encoders and tokenizers.

        Raises:
            SingDiffusionError: it has none, or a file is missing.
        """
        names = self.place.names()
        ends = [end for end in TEXT_PARTS if any(name.startswith(f"text_encoder{end}/") for name in names)]
        if not ends:
            raise SingDiffusionError(f"{self.place.name} has no text_encoder", setting="base")
        return Text.find(self.place, "", ends, variant, half)
