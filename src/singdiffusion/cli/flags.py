"""Flags for the library's messages: these name a setting as the API does, and the command line adds its own option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import SingDiffusionError

# Settings whose flags are shorter than their names in the API.
_SHORT = {
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "negative_prompt": "--negative",
    "torch_dtype": "--dtype",
    "first_step.method": "--method",
    "first_step.prompt": "--first-prompt",
    "first_step.negative_prompt": "--first-negative",
    "first_step.guidance_scale": "--first-guidance",
    "first_step.color": "--color",
}


def message(error: SingDiffusionError, command: Any) -> str:
    """Return an error's message, and in brackets the option of the command that would set it right, where it has one."""
    flag = None if error.setting is None else flag_of(error.setting, command)
    return str(error) if flag is None else f"{error} ({flag})"


def flag_of(setting: str, command: Any) -> str | None:
    """Return a command's option for a setting: "--control", or for a training "--set network.kind=..."; None without one.

    Args:
        setting: name in the API, or dotted in the configuration of a training.
        command: of the command line.
    """
    words = (word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts))
    flags = {word for word in words if word.startswith("--")}
    named = ("--" + name.replace("_", "-") for name in (setting, setting.rpartition(".")[2]))
    for flag in (_SHORT[setting],) if setting in _SHORT else named:
        if flag in flags:
            return flag
    if "--set" in flags and _is_configured(setting):
        return f"--set {setting}=..."
    return None


def running_command(group: Any, words: Sequence[str]) -> Any:
    """Return the command that the words after ``singdiffusion`` name; the group itself where they name none."""
    for word in words:
        commands = getattr(group, "commands", {})
        if word not in commands:
            break
        group = commands[word]
    return group


def _is_configured(setting: str) -> bool:
    """Whether the configuration of a training has a setting of this name."""
    from ..train.config import Config

    fields = Config.model_fields
    for name in setting.split("."):
        if name not in fields:
            return False
        fields = getattr(fields[name].annotation, "model_fields", {})
    return True
