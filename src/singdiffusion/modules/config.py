"""``SingConfig``: the latent space and the text that a module was trained for, kept in ``sing_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SingConfig(BaseModel):
    """The latent space and the text of a module, and the meaning of its output.

    Attributes:
        name: any description.
        latent_channels: channels of the latents.
        vae_scaling_factor: ``vae.config.scaling_factor`` of the latent space.
        vae_shift_factor: ``vae.config.shift_factor``, where the latent space has one.
        text_width: width of the prompt embeddings.
        text_fingerprint: output of the module's text encoder for a fixed row of tokens (``modules.text.fingerprint``).
            None: any encoder of that width counts as the same.
        sample_size: height and width of the latents in training; whether others work depends on the network.
        prediction: output of the network. ``sample``: y_bar = E[x_0 | prompt] in scaled latents. ``v_prediction``:
            v = alpha noise - sigma x_0, which is -x_0 at t = 1 (OneMoreStep). ``epsilon``: the noise.
        alpha: alpha to which a ``v_prediction`` or ``epsilon`` output refers; ``epsilon`` needs one above 0
            (``core.singular.as_sample``).
        guidance_scale: of the first step; None: the pipeline's own.
        normalise_guidance: whether to divide the guided mean by the guidance scale (``core.singular.guided_mean``).
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
    def _epsilon_needs_signal(self) -> SingConfig:
        """Raise ValueError, which pydantic reports, for epsilon at alpha = 0."""
        if self.prediction == "epsilon" and self.alpha == 0:
            raise ValueError("prediction epsilon needs an alpha above 0")
        return self


def network_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in a network's configuration, without diffusers' own entries, which begin with "_"."""
    return {key: value for key, value in config.items() if not key.startswith("_")}
