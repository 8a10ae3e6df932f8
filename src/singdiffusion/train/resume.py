"""Resume: a run continues only with the pictures and the settings that it began with."""

from __future__ import annotations

import json
from typing import Any

from ..data.shards import LatentDataset
from ..errors import SingDiffusionError
from ..files import write_whole
from ..reading import read_json
from .config import Config, differences

SETTINGS = "config.json"


def require_same_run(config: Config, data: LatentDataset) -> None:
    """Check that the run in the folder ``config.out`` has the same pictures and settings.

    Other pictures would also hold out others, and validation would then see pictures that were trained on.

    Raises:
        SingDiffusionError: it has not.
    """
    file = config.out / SETTINGS
    if not file.exists():
        return
    before, now = read_json(file), _settings(config, data)
    theirs, ours = before["pictures"], now["pictures"]
    if theirs != ours:
        raise SingDiffusionError(
            f"{config.out} holds a run on {theirs['count']:,} other pictures than the {ours['count']:,} in {data.folder}; "
            f"use those to resume, or another out to fine-tune {config.out / 'module'}",
            setting="out",
        )
    changed = differences(before, now)
    if changed:
        raise SingDiffusionError(
            f"{config.out} holds a run with another configuration ({changed[0]}); use that to resume, or another out",
            setting="out",
        )


def write_settings(config: Config, data: LatentDataset) -> None:
    """Write the settings of a run into its folder."""
    write_whole(config.out / SETTINGS, json.dumps(_settings(config, data), indent=2) + "\n")


def _settings(config: Config, data: LatentDataset) -> dict[str, Any]:
    pictures = {"count": len(data), "digest": data.digest}
    return json.loads(config.model_dump_json()) | {"pictures": pictures}
