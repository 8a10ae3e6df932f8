"""Where the files of a module or of its base are: a folder on this machine, or a repository on the hub or in its cache."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ..errors import SingDiffusionError, one_line, reason
from ..reading import read_json
from ..staging import restored

HUB_OPTIONS = {"revision", "cache_dir", "token", "local_files_only"}


class Place(Protocol):
    """Files by their relative names, with "/" between folders."""

    @property
    def name(self) -> str:
        """Its folder or hub id, for messages."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files."""
        ...

    def missing_bytes(self, names: Iterable[str]) -> int:
        """Return how many bytes ``fetch`` would download."""
        ...

    def fetch(self, names: Iterable[str]) -> Path:
        """Return the folder on this machine that holds the files of these names, downloaded where they are not in the cache.

        Raises:
            SingDiffusionError: a file cannot be had.
        """
        ...


@dataclass(frozen=True)
class Folder:
    """A folder on this machine."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """Return the names of its files and of those of its subfolders; no layout is deeper."""
        try:
            paths = [path for pattern in ("*", "*/*") for path in self.path.glob(pattern) if path.is_file()]
        except OSError as error:
            raise SingDiffusionError(f"the folder {self.path} cannot be read: {reason(error)}") from error
        return sorted(path.relative_to(self.path).as_posix() for path in paths)

    def missing_bytes(self, names: Iterable[str]) -> int:
        return 0

    def fetch(self, names: Iterable[str]) -> Path:
        return self.path


@dataclass(frozen=True)
class Repository:
    """A repository on the hub, or what its cache holds of it where the hub is not asked.

    Attributes:
        hub_id: "owner/name".
        what: what is looked for, for messages, such as "the module" or "the text encoder of X".
        options: ``revision``, ``cache_dir``, ``token`` and ``local_files_only``, as for ``huggingface_hub.snapshot_download``.
    """

    hub_id: str
    what: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.hub_id

    @cached_property
    def _on_hub(self) -> Any:
        """What the hub answers about the repository, or None where only the cache is asked or can be reached.

        Raises:
            SingDiffusionError: the hub answers that there is no such repository, or that it is not for this user.
        """
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import (
            GatedRepoError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        if constants.HF_HUB_OFFLINE or self.options.get("local_files_only"):
            return None
        try:
            api = HfApi(token=self.options.get("token"))
            return api.model_info(self.hub_id, revision=self.options.get("revision"), files_metadata=True)
        except HFValidationError as error:
            raise self._absent("it is not a hub id such as 'owner/name'") from error
        except GatedRepoError as error:
            page = f"{constants.ENDPOINT}/{self.hub_id}"
            raise self._absent(
                f"it is gated: agree to its terms on {page}, then log in with `hf auth login`"
            ) from error
        except RepositoryNotFoundError as error:
            raise self._absent("the hub has no public repository of that name") from error
        except RevisionNotFoundError as error:
            raise self._absent(f"it has no revision {self.options.get('revision')}") from error
        except Exception:  # no connection: the cache may do
            return None

    @property
    def card(self) -> Mapping[str, Any]:
        """The metadata of its model card, {} where the hub was not asked or it has none."""
        found = getattr(self._on_hub, "card_data", None)
        return {} if found is None else found.to_dict()

    @property
    def is_online(self) -> bool:
        """Whether the hub was asked and answered."""
        return self._on_hub is not None

    @cached_property
    def _cached(self) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import HFValidationError

        try:
            return Path(snapshot_download(self.hub_id, **{**self.options, "local_files_only": True}))
        except HFValidationError as error:
            raise self._absent("it is not a hub id such as 'owner/name'") from error
        except Exception as error:  # the hub's client raises several kinds
            revision = self.options.get("revision")
            what = "it" if revision is None else f"its revision {revision}"
            raise self._absent(f"{what} is not in the cache, and {self._why_offline()}") from error

    def _why_offline(self) -> str:
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            return "HF_HUB_OFFLINE is set"
        return "local_files_only is set" if self.options.get("local_files_only") else "the hub cannot be reached"

    def names(self) -> list[str]:
        if self._on_hub is None:
            cached = self._cached
            return sorted(path.relative_to(cached).as_posix() for path in cached.rglob("*") if path.is_file())
        return sorted(each.rfilename for each in self._on_hub.siblings)

    def missing_bytes(self, names: Iterable[str]) -> int:
        from huggingface_hub import try_to_load_from_cache

        if self._on_hub is None:
            return 0
        sizes = {each.rfilename: each.size or 0 for each in self._on_hub.siblings}
        options = {"cache_dir": self.options.get("cache_dir"), "revision": self.options.get("revision")}
        here = {name for name in names if isinstance(try_to_load_from_cache(self.hub_id, name, **options), str)}
        return sum(sizes.get(name, 0) for name in set(names) - here)

    def fetch(self, names: Iterable[str]) -> Path:
        from huggingface_hub import snapshot_download

        if self._on_hub is None:
            return self._cached
        try:
            return Path(snapshot_download(self.hub_id, allow_patterns=sorted(set(names)), **self.options))
        except Exception as error:  # the hub's client raises several kinds
            raise SingDiffusionError(f"{self.hub_id} could not be downloaded: {one_line(error)}") from error

    def _absent(self, reason: str) -> SingDiffusionError:
        return SingDiffusionError(f"{self.what} {self.hub_id:.200} is not here: there is no such folder, and {reason}")


def place_of(name: str | os.PathLike, what: str, **options: Any) -> Place:
    """Return where something is: a folder of that name, otherwise a repository of the hub.

    Args:
        name: a folder or a hub id.
        what: what it is, for messages, such as "the module".
        options: as for ``Repository``.

    Raises:
        SingDiffusionError: the name is a file's.
    """
    if not str(name).strip():
        raise SingDiffusionError(f"{what} has an empty name; it is a folder or a hub id")
    unknown = sorted(set(options) - HUB_OPTIONS)
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}; known: {', '.join(sorted(HUB_OPTIONS))}")
    folder = Path(name)
    try:
        is_folder, exists = restored(folder).is_dir(), folder.exists()
    except (OSError, ValueError):  # a name that no file can have
        is_folder = exists = False
    if is_folder:
        return Folder(folder)
    if exists:
        raise SingDiffusionError(f"{what} is a folder or a hub id, and {name} is a file")
    return Repository(str(name), what, options)


def folder_of(name: str | os.PathLike, what: str, patterns: Iterable[str]) -> Path:
    """Return a folder on this machine with the files of a folder or hub id whose names match, downloaded where they are not here.

    Args:
        name: a folder or a hub id.
        what: what it is, for messages.
        patterns: as for ``fnmatch``, where "*" also matches "/".

    Raises:
        SingDiffusionError: it is not found.
    """
    place = place_of(name, what)
    wanted = [each for each in place.names() if any(fnmatch(each, pattern) for pattern in patterns)]
    return place.fetch(wanted)


@dataclass(frozen=True)
class Part:
    """Some files of one component, in one folder of a place.

    Attributes:
        place: where it is.
        folder: of the component, "" for the place itself.
        files: names in that folder.
    """

    place: Place
    folder: str
    files: tuple[str, ...]

    def names(self) -> list[str]:
        """Return the names of its files in the place."""
        return [f"{self.folder}/{name}" if self.folder else name for name in self.files]

    def fetch(self) -> Path:
        """Return the component's folder on this machine, with its files."""
        return self.place.fetch(self.names()) / self.folder

    @property
    def where(self) -> str:
        """Its folder, for messages."""
        return f"{self.place.name}/{self.folder}" if self.folder else self.place.name


def read_config(place: Place, folder: str) -> dict[str, Any]:
    """Return the contents of a folder's ``config.json``; of a repository only this file is downloaded."""
    return read_json(Part(place, folder, ("config.json",)).fetch() / "config.json")


def elsewhere(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of ``Repository`` for another one: a revision belongs to the first alone."""
    return {key: value for key, value in options.items() if key != "revision"}


def joined(*folders: str) -> str:
    """Return a folder's name in a place; empty parts are left out."""
    return "/".join(folder.strip("/") for folder in folders if folder.strip("/"))


def files_in(place: Place, folder: str) -> list[str]:
    """Return the names of the files directly in a folder of a place."""
    prefix = f"{folder}/" if folder else ""
    inside = (name.removeprefix(prefix) for name in place.names() if name.startswith(prefix))
    return [name for name in inside if "/" not in name]
