"""What a visitor may ask for, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import SingDiffusionError

OWN = "default"  # the model's own scheduler
OFF = "off"


@dataclass(frozen=True)
class Limits:
    """The most that one request may ask for.

    Attributes:
        steps: denoising steps.
        side: height and width, pixels.
        count: pictures, each painted without and with.
        letters: of a prompt.
        waiting: requests that wait for the one being painted.
    """

    steps: int = 150
    side: int = 1024
    count: int = 4
    letters: int = 1000
    waiting: int = 16


class Settings(BaseModel):
    """One request: pictures of one prompt.

    Attributes:
        prompt, negative_prompt: as for the pipeline.
        seed: of the first picture; the next take the next.
        steps: denoising steps.
        guidance: guidance scale; 1 or less: none.
        scheduler: a name of ``choices.SCHEDULERS``, or ``default``, the model's own.
        method: one of the studio's methods; empty: its best.
        first_prompt: told to the first step alone, instead of the prompt; empty: the prompt.
        color: the flat colour that the first step starts from, #rrggbb or a name; empty: none.
        width, height: pixels; 0: the model's own.
        count: pictures.
        control: the name of what a ControlNet follows; empty: the first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    prompt: str
    negative_prompt: str = ""
    seed: int = Field(0, ge=0, lt=2**32)
    steps: int = Field(50, ge=1)
    guidance: float = Field(7.5, ge=0, le=30)
    scheduler: str = OWN
    method: str = ""
    first_prompt: str = ""
    color: str = ""
    width: int = Field(0, ge=0)
    height: int = Field(0, ge=0)
    count: int = Field(1, ge=1)
    control: str = ""


def read(values: Mapping[str, Any], limits: Limits) -> Settings:
    """Settings from whatever came over the network.

    Raises:
        SingDiffusionError: one is missing, unknown, of another type, or above its limit; the message names it.
    """
    given = {key: value for key, value in values.items() if value is not None}
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise SingDiffusionError(_plainly(error)) from error
    for name in ("prompt", "negative_prompt", "first_prompt"):
        text = getattr(settings, name)
        if len(text) > limits.letters:
            raise SingDiffusionError(f"{name}: at most {limits.letters} letters are taken here, not {len(text)}")
        if not text.isprintable() and not all(c.isprintable() or c.isspace() for c in text):
            raise SingDiffusionError(f"{name}: it has control characters; write plain text")
    if not settings.prompt.strip():
        raise SingDiffusionError("prompt: it is empty; say what to paint")
    for name, most in (
        ("steps", limits.steps),
        ("count", limits.count),
        ("width", limits.side),
        ("height", limits.side),
    ):
        if getattr(settings, name) > most:
            raise SingDiffusionError(f"{name}: at most {most} are taken here, not {getattr(settings, name)}")
    return settings


def _plainly(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    where = (name if name.isidentifier() else repr(name[:40])) if first["loc"] else "the request"
    said = _SAID.get(first["type"])
    return f"{where}: {said.format(**first.get('ctx', {})) if said else first['msg']}"


_SAID = {  # pydantic's kinds of error, in a visitor's words
    "missing": "it is missing",
    "extra_forbidden": "there is no such setting",
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_type": "it must be a number",
    "string_type": "it must be a text",
    "finite_number": "it must be a finite number",
    "greater_than_equal": "it must be at least {ge}",
    "less_than_equal": "it must be at most {le}",
    "less_than": "it must be below {lt}",
}
