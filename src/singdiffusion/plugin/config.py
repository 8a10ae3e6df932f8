"""What a module was trained for, kept beside its weights in ``sing_config.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SingConfig(BaseModel):
    """A module's latent space, its text, and how its output is used.

    Attributes:
        name: for people.
        latent_channels: channels of the latents.
        vae_scaling_factor: ``vae.config.scaling_factor`` of the latent space.
        vae_shift_factor: ``vae.config.shift_factor``, where the latent space has one.
        text_width: width of the prompt embeddings that it takes.
        text_fingerprint: what the text encoder it was trained with says to a fixed row of tokens (see
            ``text.fingerprint``); None: any encoder of that width is taken for the same.
        sample_size: height and width of the latents it was trained on; others work as far as the network does.
        prediction: what the network predicts; ``sample`` is y_bar = E[x_0 | prompt] in scaled latents, ``v_prediction`` is
            v = alpha noise - sigma x_0, at t = 1 the same with the other sign (OneMoreStep); ``epsilon`` is the noise.
        alpha: at which v or the noise is meant; 0, t = 1 itself, is not possible for ``epsilon`` (see ``core.singular.as_sample``).
        guidance_scale: of the first step; None: the pipeline's own.
        normalise_guidance: divide the guided mean by the guidance scale ([SD] section 4).
        format: version of this file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    latent_channels: int = Field(gt=0)
    vae_scaling_factor: float = Field(gt=0, allow_inf_nan=False)
    vae_shift_factor: float | None = Field(default=None, allow_inf_nan=False)
    text_width: int = Field(gt=0)
    text_fingerprint: tuple[float, ...] | None = None
    sample_size: int | None = Field(default=None, gt=0)
    prediction: Literal["sample", "v_prediction", "epsilon"] = "sample"
    alpha: float = Field(default=0.0, ge=0, lt=1)
    guidance_scale: float | None = Field(default=None, allow_inf_nan=False)
    normalise_guidance: bool = True
    format: Literal[1] = 1

    @model_validator(mode="after")
    def _noise_tells_something(self) -> SingConfig:
        if self.prediction == "epsilon" and self.alpha == 0:
            raise ValueError("prediction epsilon needs an alpha above 0")
        return self
