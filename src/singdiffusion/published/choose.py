"""Which module fits a latent space and a text encoder: the user's own, an embedded one, or a public one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import tiny
from ..errors import SingDiffusionError
from ..modules import SingConfig, layout
from ..modules.config import Latents
from ..modules.text import same_encoders
from ..modules.weights import require_whole
from .layouts import KINDS, Published
from .load import find
from .places import Folder, Repository
from .public import PUBLIC, PublicModule

HOME = "SINGDIFFUSION_HOME"
INSTEAD = "name another module, start from a flat color, or train a module"


@dataclass(frozen=True)
class Needs:
    """What a pipeline needs of a module.

    Attributes:
        latents: its latent space.
        text_width: width of its prompt embeddings.
        text_encoders: of the pipeline.
    """

    latents: Latents
    text_width: int
    text_encoders: list[Any]

    def met_by(self, config: SingConfig, brings_text: bool) -> bool:
        """Return whether a module serves: latents alone count where it brings text encoders."""
        if not config.latents.same(self.latents):
            return False
        same = self.text_width == config.text_width and same_encoders(self.text_encoders, config.text_fingerprint)
        return brings_text or same


@dataclass(frozen=True)
class Choice:
    """A module that fits.

    Attributes:
        source: for ``load_module``.
        line: what it is, from where, under whose terms, and the size of the download, for the user.
        passed_over: a line per folder among the user's modules that is damaged.
    """

    source: str
    line: str
    passed_over: tuple[str, ...] = ()


def home() -> Path:
    """Return the folder of the user's own modules, each in a subfolder: ``SINGDIFFUSION_HOME``, or that of the platform's user data.

    Raises:
        SingDiffusionError: ``SINGDIFFUSION_HOME`` names something else than a folder.
    """
    named = os.environ.get(HOME)
    if named:
        folder = Path(named)
        if not folder.is_dir():
            raise SingDiffusionError(f"{HOME} is {named}, which is no folder")
        if (folder / layout.CONFIG).exists() or (folder / "oms_module").exists():
            raise SingDiffusionError(f"{HOME} is {named}, which is a module; name the folder that holds your modules")
        return folder
    from platformdirs import user_data_path

    return user_data_path("singdiffusion", appauthor=False)


def choose(needs: Needs, half: bool = False, **hub: Any) -> Choice:
    """Return the module that fits: the user's own before embedded ones, these before public ones.

    Nothing large is downloaded; of a public module its configurations are read, to give the size of the download.

    Args:
        needs: of the pipeline.
        half: whether the module will be used in half precision.
        hub: ``cache_dir``, ``local_files_only`` and ``token``, as for ``load_module``.

    Raises:
        SingDiffusionError: no module fits, or the public one that fits can neither be found on this machine nor downloaded.
    """
    passed_over: list[str] = []
    for folder, found in _own_modules(passed_over, half, hub):
        brings = found.brings_text or found.kind == "authors"  # which comes with the text encoder of its base
        if needs.met_by(found.config, brings):
            line = f"module {folder.name} ({KINDS[found.kind]}), one of your own in {folder.parent}"
            return Choice(str(folder), line, tuple(passed_over))
    embedded = tiny.module_folder("tiny")
    if needs.met_by(layout.read_config(embedded), brings_text=True):
        return Choice("tiny", "module tiny, which comes with this package", tuple(passed_over))
    public = next((each for each in PUBLIC if each.latents.same(needs.latents)), None)
    if public is None:
        channels, scaling, _ = needs.latents
        raise SingDiffusionError(
            f"no module is known for latents of {channels} channels with VAE factor {scaling:g}; {INSTEAD}",
            setting="module",
        )
    return Choice(public.hub_id, _describe(public, half, hub), tuple(passed_over))


def _own_modules(passed_over: list[str], half: bool, hub: dict[str, Any]) -> Iterator[tuple[Path, Published]]:
    """Yield the user's modules by name; lines about folders that cannot be read go to ``passed_over``."""
    folder = home()
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        try:
            found = find(entry, half=half, **hub)
            parts = found.parts()  # raises where its text encoder cannot be had
            for part in parts:
                if isinstance(part.place, Folder):
                    require_whole(part.fetch() / name for name in part.files)
        except SingDiffusionError as error:
            passed_over.append(f"{entry.name} in {folder} is passed over: {error}")
        else:
            yield entry, found


def _describe(public: PublicModule, half: bool, hub: dict[str, Any]) -> str:
    """Return the line of a public module.

    Raises:
        SingDiffusionError: it cannot be had.
    """
    try:
        found = find(public.hub_id, half=half, **hub)
        parts = found.parts()
    except SingDiffusionError as error:
        raise SingDiffusionError(f"{public.hub_id} would fit, but {error}; {INSTEAD}", setting="module") from error
    size = sum(part.place.missing_bytes(part.names()) for part in parts)
    origin = f"downloads {_bytes(size)}" if size else "from the hub's cache"
    place = found.network.part.place
    licence = str(place.card.get("license") or "") if isinstance(place, Repository) else ""
    stated = f", {re.sub(r'[^A-Za-z0-9.+ -]', '', licence)[:40]}" if licence else ""
    return f"module {public.hub_id} ({public.makers}, for {public.serves}), {origin}; terms: {public.page}{stated}"


def _bytes(count: int) -> str:
    """Return a number of bytes as people read it: "3.4 GB"."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{max(1, round(count / 1000))} kB"
