"""Resume: a run continues only with the pictures and the settings that it began with."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from ..data.shards import LatentDataset
from ..errors import SingDiffusionError
from ..files import write_whole
from ..reading import read_json
from .config import Config, differences

SETTINGS = "config.json"


class Pictures(BaseModel):
    """What a run is trained on: number of pictures, and their digest."""

    count: int
    digest: str


class Settings(Config):
    """The content of a run's ``config.json``: its configuration and its pictures."""

    pictures: Pictures


def require_same_run(config: Config, data: LatentDataset, begun: bool) -> None:
    """Check that the run in the folder ``config.out`` has the same pictures and settings.

    Other pictures would also hold out others, and validation would then see pictures that were trained on.

    Args:
        begun: whether the folder has checkpoints.

    Raises:
        SingDiffusionError: it has not, or its ``config.json`` is not a run's, or is missing beside checkpoints.
    """
    file = config.out / SETTINGS
    if not file.exists() and not begun:
        return
    before, now = _read(file), _settings(config, data)
    if not begun:
        return
    theirs, ours = before.pictures, now.pictures
    if theirs != ours:
        raise SingDiffusionError(
            f"{config.out} holds a run on {theirs.count:,} other pictures than the {ours.count:,} in {data.folder}; "
            f"use those to resume, or another out to fine-tune {config.out / 'module'}",
            setting="out",
        )
    changed = differences(before.model_dump(mode="json"), now.model_dump(mode="json"))
    if changed:
        raise SingDiffusionError(
            f"{config.out} holds a run with another configuration ({changed[0]}); use that to resume, or another out",
            setting="out",
        )


def _read(file: Path) -> Settings:
    try:
        return read_json(file, Settings)
    except SingDiffusionError as error:
        raise SingDiffusionError(
            f"{error}; it must hold the settings of a run: restore it to resume, or use another out", setting="out"
        ) from error


def write_settings(config: Config, data: LatentDataset) -> None:
    """Write the settings of a run into its folder."""
    write_whole(config.out / SETTINGS, _settings(config, data).model_dump_json(indent=2) + "\n")


def _settings(config: Config, data: LatentDataset) -> Settings:
    pictures = Pictures(count=len(data), digest=data.digest)
    return Settings(**dict(config), pictures=pictures)
