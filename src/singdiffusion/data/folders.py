"""A folder of pictures as a source: captions in files beside them, or in metadata files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..errors import SingDiffusionError
from .captions import CAPTION_SUFFIXES, CAPTIONS, NONE, Beside, caption_of, chosen, read_beside
from .formats import COMMON
from .items import Item, Numbered, Skipped, changed, digest_of
from .listing import Listing, list_folder
from .metadata import Metadata

NAMED = 3  # files beside a picture that a reason names


class Folder(Numbered):
    """Pictures in a folder and its subfolders, in the order of their paths.

    Args:
        folder: the root.
        unit_size: pictures per unit.
        listing: of the folder; None: it is listed.
        needed: whether a folder without pictures is an error.

    Raises:
        SingDiffusionError: it holds no pictures and needs some, or a metadata file cannot be read.
    """

    def __init__(self, folder: Path, unit_size: int, listing: Listing | None = None, needed: bool = True):
        self.unit_size = unit_size
        self._listing = list_folder(folder) if listing is None else listing
        self.files = self._listing.pictures
        self.count = len(self.files)
        self._metadata = Metadata(self._listing)
        self._beside = Beside(set(self._listing.others) - set(self._metadata.files))
        self._unused = [*self._listing.unused, *self._metadata.unused, *self._without_pictures()]
        if needed and not self.files:
            reasons = "".join(f"; {line.key} {line.reason}" for line in self._unused[:2])
            raise SingDiffusionError(f"{folder} holds no pictures ({COMMON}) and no .tar shards{reasons}")

    def units(self) -> list[str]:
        """Return the numbers of the units, at least one, because the first also yields what is not used."""
        return super().units() or ["00000"]

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        """Yield the pictures of a unit; after those of the first, everything in the folder that is not used."""
        for i in self._range(unit):
            yield self._item(self.files[i])
        if self._range(unit).start == 0:
            yield from self._unused

    def digest(self, unit: str) -> str:
        """Return a digest of names, sizes and times of the unit's files, and of its rows in the metadata."""
        stats = []
        for file in (self.files[i] for i in self._range(unit)):
            key = self._listing.key(file)
            beside = [(one.name, *changed(one)) for one in self._beside.captions(file)]
            stats.append((key, *changed(file), beside, self._metadata.captions.get(key)))
        unused = [(line.key, line.reason) for line in self._unused] if self._range(unit).start == 0 else []
        return digest_of([stats, unused])

    def _item(self, file: Path) -> Item | Skipped:
        key = self._listing.key(file)
        values = self._metadata.captions.get(key)
        places = [] if values is None else [("the metadata", caption_of(_flat(values)))]
        places += [(one.name, read_beside(one)) for one in self._beside.captions(file)]
        found = chosen(places)
        if found.texts:
            return Item(key, file, found.texts, found.notes)
        return Skipped(key, found.reason + (self._instead(file, key) if found.reason == NONE else ""))

    def _instead(self, file: Path, key: str) -> str:
        """Return, after a colon, what there is of a picture without a caption; "" where there is nothing."""
        if key in self._metadata.captions:
            return f": its row in the metadata holds none ({', '.join(CAPTIONS)})"
        names = self._beside.others(file)
        if names:
            more = ", ..." if len(names) > NAMED else ""
            return f": beside it lies {', '.join(names[:NAMED])}{more}; captions are in {', '.join(CAPTION_SUFFIXES)}"
        if self._metadata.files:
            return f": {self._listing.key(self._metadata.files[0])} does not name it"
        return ""

    def _without_pictures(self) -> Iterator[Skipped]:
        """Yield caption files without a picture, .tar shards in subfolders, and a line per suffix of other files."""
        used = {one for file in self.files for one in self._beside.captions(file)} | set(self._metadata.files)
        named, others = {line.key for line in self._metadata.unused}, Counter()
        for file in self._listing.others:
            key, suffix = self._listing.key(file), file.suffix.lower()
            if file in used or key in named:
                continue
            if suffix == ".tar":
                if file.parent != self._listing.root:
                    yield Skipped(key, "is a .tar shard in a subfolder: encode that folder by itself")
            elif suffix in CAPTION_SUFFIXES and suffix != ".json":
                yield Skipped(key, "has no picture")
            else:
                others[suffix] += 1
        for suffix, count in sorted(others.items()):
            yield Skipped(f"*{suffix}", f"is neither a picture nor a caption: {count} file{'s' * (count != 1)}")


def _flat(values: list) -> list:
    return [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
