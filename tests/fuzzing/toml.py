"""Write the values of a training's configuration as TOML, wrong ones too."""

from __future__ import annotations

import json
import math
from typing import Any


def as_toml(value: Any) -> bytes:
    """Return TOML bytes of an object; what TOML cannot express becomes text that is not TOML."""
    if not isinstance(value, dict):
        return _value(value).encode("utf-8", "surrogatepass")
    lines = [f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)
