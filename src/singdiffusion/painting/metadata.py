"""Settings of a picture under diffusers' own argument names: one vocabulary for PNG files, JSON, the page and its HTTP API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

_HALVES = re.compile("[\ud800-\udfff]")
ON, OFF, COMPARE = "on", "off", "compare"


@dataclass(frozen=True)
class PictureSettings:
    """How a picture was made. None means: not used, or the pipeline's own default.

    Attributes:
        prompt: text.
        negative_prompt: likewise.
        seed: of a CPU generator.
        num_inference_steps: denoising steps.
        guidance_scale: 1 or less: no guidance.
        scheduler: diffusers' class name.
        height, width: pixels.
        model: embedded name, folder, file or hub id of the pipeline.
        module: likewise, of SingDiffusion's module.
        control: name of the picture that a ControlNet follows.
        torch_dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: type of the device, such as ``cuda``.
        singdiffusion: ``on``, ``off``, or ``compare`` for both side by side.
        first_step: options of ``SingDiffusion.enable``, under its own argument names.
        details: whatever else the picture depends on, such as digests of weights.
    """

    prompt: str
    seed: int
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    height: int | None = None
    width: int | None = None
    model: str | None = None
    module: str | None = None
    control: str | None = None
    torch_dtype: str | None = None
    device: str | None = None
    singdiffusion: str = OFF
    first_step: Mapping[str, Any] | None = None
    details: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return every setting by its name; ``details`` only where there are some."""
        found = asdict(self)
        if self.details is None:
            del found["details"]
        return found

    def of(self, **changes: Any) -> PictureSettings:
        """Return the same settings with changes, such as another seed."""
        return replace(self, **changes)

    def without(self) -> PictureSettings:
        """Return the settings of the picture without SingDiffusion: neither a module nor a first step took part in it."""
        return replace(self, singdiffusion=OFF, module=None, first_step=None)


def json_text(value: Any, **options: Any) -> str:
    """Return JSON as text that UTF-8 can hold. Half of a character, as in a file's name of another encoding, becomes an escape.

    Args:
        value: JSON.
        options: of ``json.dumps``.
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def settings_of(pipe: Any, prompt: str, seed: int, **settings: Any) -> PictureSettings:
    """Return a picture's settings, with scheduler, precision and device as a pipeline has them.

    Args:
        pipe: a diffusers pipeline.
        prompt: text.
        seed: of the picture.
        settings: the others, by their names in ``PictureSettings``.
    """
    return PictureSettings(
        prompt,
        seed,
        scheduler=type(pipe.scheduler).__name__,
        torch_dtype=str(pipe.dtype).removeprefix("torch."),
        device=pipe.device.type,
        **settings,
    )


def settings_from(record: Mapping[str, Any], prompt: str, seed: int, **settings: Any) -> PictureSettings:
    """Return a picture's settings from a record that may have other names too; the whole record becomes ``details``.

    Args:
        record: such as a gallery's settings; JSON.
        prompt: text.
        seed: of the picture.
        settings: in place of the record's.
    """
    names = {field.name for field in fields(PictureSettings)} - {"prompt", "seed", "details"}
    known = {name: value for name, value in record.items() if name in names} | settings
    return PictureSettings(prompt, seed, details=record, **known)
