"""``SingConfig``: the latent space and the text that a module was trained for, kept in ``sing_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

_MOST = 2**24  # of channels and rows, far above any
_Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class Latents(NamedTuple):
    """A latent space, as far as numbers identify it: two VAEs with the same numbers count as the same.

    Attributes:
        channels: of the latents.
        scaling: ``vae.config.scaling_factor``.
        shift: ``vae.config.shift_factor``, 0 where there is none.
    """

    channels: int
    scaling: float
    shift: float = 0.0

    def same(self, other: Latents) -> bool:
        """Return whether two latent spaces are the same, with a relative tolerance of 1e-4 for their factors."""
        near = (abs(a - b) <= 1e-4 * abs(a) for a, b in ((self.scaling, other.scaling), (self.shift, other.shift)))
        return self.channels == other.channels and all(near)


class Origin(BaseModel):
    """How a module was made, for its model card; each is empty where it is not known.

    Attributes:
        base: name of the model whose latents and text it was trained with: a hub id, or the name of a folder.
        source: the published module that it was converted from.
        data: what it was trained on.
        figures: of the last validation (``docs/training.md``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = ""
    source: str = ""
    data: str = ""
    figures: dict[str, _Finite] = {}


class SingConfig(BaseModel):
    """The latent space and the text of a module, and the meaning of its output.

    Attributes:
        name: any description.
        latent_channels: channels of the latents.
        vae_scaling_factor: ``vae.config.scaling_factor`` of the latent space.
        vae_shift_factor: ``vae.config.shift_factor``, where the latent space has one.
        text_width: width of the prompt embeddings.
        text_fingerprint: output of the module's text encoder for a fixed row of tokens (``modules.text.fingerprint``), of two
            encoders one after the other. None: any encoder of that width counts as the same.
        text_length: rows of the embeddings in training, such as 77; more are read as several chunks (``modules.chunks``). None: not
            known, or not fixed (T5).
        sample_size: height and width of the latents in training; whether others work depends on the network.
        prediction: output of the network. ``sample``: y_bar = E[x_0 | prompt] in scaled latents. ``v_prediction``:
            v = alpha noise - sigma x_0, which is -x_0 at t = 1 (OneMoreStep). ``epsilon``: the noise.
        alpha: alpha to which a ``v_prediction`` or ``epsilon`` output refers; ``epsilon`` needs one above 0
            (``core.singular.as_sample``).
        guidance_scale: of the first step; None: the pipeline's own.
        normalise_guidance: whether to divide the guided mean by the guidance scale (``core.singular.guided_mean``).
        origin: how the module was made.
        format: version of this file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    latent_channels: int = Field(gt=0, le=_MOST, strict=True)
    vae_scaling_factor: float = Field(gt=0, allow_inf_nan=False, strict=True)
    vae_shift_factor: float | None = Field(default=None, allow_inf_nan=False, strict=True)
    text_width: int = Field(gt=0, le=_MOST, strict=True)
    text_fingerprint: tuple[_Finite, ...] | None = Field(default=None, max_length=1000)
    text_length: int | None = Field(default=None, gt=0, le=_MOST, strict=True)
    sample_size: int | None = Field(default=None, gt=0, le=2**16, strict=True)
    prediction: Literal["sample", "v_prediction", "epsilon"] = "sample"
    alpha: float = Field(default=0.0, ge=0, lt=1, strict=True)
    guidance_scale: float | None = Field(default=None, allow_inf_nan=False, strict=True)
    normalise_guidance: bool = Field(default=True, strict=True)
    origin: Origin = Origin()
    format: Literal[1] = 1

    @property
    def latents(self) -> Latents:
        """The latent space."""
        return Latents(self.latent_channels, self.vae_scaling_factor, self.vae_shift_factor or 0.0)

    @model_validator(mode="after")
    def _epsilon_needs_signal(self) -> SingConfig:
        """Raise ValueError, which pydantic reports, for epsilon at alpha = 0."""
        if self.prediction == "epsilon" and self.alpha == 0:
            raise ValueError("prediction epsilon needs an alpha above 0")
        return self


def network_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in a network's configuration, without diffusers' own entries, which begin with "_"."""
    return {key: value for key, value in config.items() if not key.startswith("_")}
