"""Settings of a request to the page or its HTTP API, and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import SingDiffusionError, validation_line

OWN = "default"  # the model's own scheduler
NO_MODULE = "none"


@dataclass(frozen=True)
class Limits:
    """Largest values of one request.

    Attributes:
        num_inference_steps: denoising steps.
        side: height and width, pixels.
        count: pictures, each painted without and with SingDiffusion.
        letters: of a prompt.
        waiting: requests that wait for the one being painted.
    """

    num_inference_steps: int = 150
    side: int = 1024
    count: int = 4
    letters: int = 1000
    waiting: int = 16


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FirstStep(_Request):
    """Options of the first step alone, under the names of ``SingDiffusion.enable``; an empty one is left out.

    Attributes:
        method: ``mean`` or ``moments``; by default what the module can do best.
        prompt: in place of the request's.
        negative_prompt: goes with ``prompt``.
        guidance_scale: by default the request's.
        color: flat colour to start from, #rrggbb or a name; goes with no other option and needs no module.
    """

    method: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    guidance_scale: float | None = Field(None, ge=0, le=30)
    color: str = ""

    def options(self) -> dict[str, Any]:
        """Return the options that are not empty, as ``SingDiffusion.enable`` takes them."""
        return {name: value for name, value in self if value not in ("", None)}


class Settings(_Request):
    """One request: pictures of one prompt.

    Attributes:
        prompt, negative_prompt: as for the pipeline.
        seed: of the first picture; the next take the next.
        num_inference_steps: denoising steps.
        guidance_scale: no guidance at 1 or less.
        scheduler: short name or diffusers' class name; ``default``: the model's own.
        height, width: pixels; 0: the model's own.
        module: one of the server's modules; ``none``: only without SingDiffusion; empty: the best.
        first_step: options of the first step.
        control: name of the picture that a ControlNet follows; empty: the first.
        count: pictures.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = Field(0, ge=0, lt=2**32)
    num_inference_steps: int = Field(50, ge=1)
    guidance_scale: float = Field(7.5, ge=0, le=30)
    scheduler: str = OWN
    height: int = Field(0, ge=0)
    width: int = Field(0, ge=0)
    module: str = ""
    first_step: FirstStep = FirstStep()
    control: str = ""
    count: int = Field(1, ge=1)

    @property
    def is_off(self) -> bool:
        """Whether, in checked settings, only pictures without SingDiffusion are asked for."""
        return self.module == NO_MODULE and not self.first_step.color


def read(values: Mapping[str, Any], limits: Limits) -> Settings:
    """Return the settings of a request from the network; null stands for a default.

    Raises:
        SingDiffusionError: one is missing, unknown, of another type, or beyond its limit; the message names it.
    """
    try:
        settings = Settings.model_validate(_without_nulls(values))
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"])) or None
        raise SingDiffusionError(validation_line(error, "the request"), setting=name) from error
    _check_texts(settings, limits)
    for name, most in (
        ("num_inference_steps", limits.num_inference_steps),
        ("count", limits.count),
        ("width", limits.side),
        ("height", limits.side),
    ):
        if getattr(settings, name) > most:
            line = f"{name} must be at most {most} on this server, not {getattr(settings, name)}"
            raise SingDiffusionError(line, setting=name)
    return settings


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in values.items() if value is not None}
    first_step = given.get("first_step")
    if isinstance(first_step, Mapping):
        given["first_step"] = {name: value for name, value in first_step.items() if value is not None}
    return given


def _check_texts(settings: Settings, limits: Limits) -> None:
    """Check length and letters of the prompts.

    Raises:
        SingDiffusionError: one is too long or not plain text, or there is no prompt.
    """
    first = settings.first_step
    for name, text in (
        ("prompt", settings.prompt),
        ("negative_prompt", settings.negative_prompt),
        ("first_step.prompt", first.prompt),
        ("first_step.negative_prompt", first.negative_prompt),
    ):
        if len(text) > limits.letters:
            line = f"{name} must have at most {limits.letters} letters, not {len(text)}"
            raise SingDiffusionError(line, setting=name)
        if not all(letter.isprintable() or letter.isspace() for letter in text):
            raise SingDiffusionError(f"{name} has control characters; write plain text", setting=name)
    if not settings.prompt.strip():
        raise SingDiffusionError("prompt is empty; write what the picture shows", setting="prompt")
