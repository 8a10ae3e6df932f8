"""webdataset shards as a source: .tar files of members KEY.jpg (or another picture), KEY.txt and optionally KEY.json."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import SingDiffusionError
from .archives import Archive, Damage, Member
from .captions import CAPTION_SUFFIXES, MOST_BYTES, MOST_JSON, NONE, Captions, chosen, of_file
from .formats import picture_suffixes, why_not
from .items import Item, Skipped, changed, digest_of

MOST_PICTURE = (
    2**30
)  # bytes of a picture's file; one of the most pixels that are decoded, 8-bit and not compressed, has 0.6 GiB


@dataclass
class _Group:
    """The members of a key, by what follows the key's dot.

    Attributes:
        key: name up to the first dot of the file's name, as webdataset groups members.
        pictures: suffix -> (number in the archive, the member).
        captions: suffix -> what a caption file holds.
        others: suffixes of other members.
        time: 1 for the first group of a key, 2 for another of the same names, ...
        mixed: a name occurs again before the group was complete, so its members cannot be paired.
    """

    key: str
    time: int = 1
    pictures: dict[str, tuple[int, Member]] = field(default_factory=dict)
    captions: dict[str, Captions] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    first: int = 0
    mixed: int = 0

    @property
    def name(self) -> str:
        """The key, with a number where it occurs again."""
        return self.key if self.time == 1 else f"{self.key} ({self.time})"

    @property
    def complete(self) -> bool:
        """Whether it has a picture and a caption."""
        return bool(self.pictures and self.captions)

    def has(self, suffix: str) -> bool:
        """Return whether it has a member of that suffix."""
        return suffix in self.pictures or suffix in self.captions or suffix in self.others


class TarShards:
    """.tar shards of members KEY.jpg (or another picture), KEY.txt and optionally KEY.json with a caption.

    Members of a key need not stand side by side. KEY.a.jpg and KEY.b.jpg are two pictures; each has the captions KEY.a.txt or
    KEY.b.txt, otherwise KEY.txt. Names that occur again are pictures of their own.

    Args:
        files: the shards.

    Raises:
        SingDiffusionError: a shard does not exist, or two have the same name.
    """

    def __init__(self, files: list[Path]):
        missing = [str(file) for file in files if not os.path.isfile(file)]
        if missing:
            raise SingDiffusionError(f"shard {missing[0]} does not exist ({len(missing)} of {len(files)} are missing)")
        self.files = {file.stem: file for file in files}
        if len(self.files) < len(files):
            raise SingDiffusionError("two shards have the same name; put them into a folder each and encode one by one")

    def units(self) -> list[str]:
        """Return the shards' names without .tar."""
        return list(self.files)

    def items(self, unit: str) -> Iterator[Item | Skipped]:
        """Yield the pictures in their order; of a damaged archive what is readable, and a ``Skipped`` where it ends."""
        file, last, damage = self.files[unit], None, ""
        try:
            with Archive(file) as archive:
                found = _Scan(archive)
                damage = found.damage
                for line in found.lines():
                    if damage and line.key == found.last and isinstance(line, Skipped):
                        continue  # what it lacks stood behind the damage
                    yield line
                    last = line.key
        except Damage as error:
            damage = damage or str(error)
        if damage:
            yield Skipped(f"{file.name} after {last}" if last else file.name, f"the shard is damaged: {damage}")

    def digest(self, unit: str) -> str:
        """Return a digest of the shard's name, size and time."""
        return digest_of([unit, *changed(self.files[unit])])


class _Scan:
    """The groups of an archive: its headers and captions are read first, its pictures when they are yielded.

    Args:
        archive: an open one.

    Attributes:
        damage: what is wrong with the archive, or "".
        last: name of the group of the last member that was read.
    """

    def __init__(self, archive: Archive):
        self.archive, self.damage, self.last = archive, "", None
        self._groups: list[_Group] = []
        self._latest: dict[str, _Group] = {}
        self._skipped: list[tuple[int, Skipped]] = []
        self._links: list[tuple[_Group, str, Member]] = []  # captions that are links to what was not there yet
        try:
            for number, member in enumerate(archive.members()):
                self._add(number, member)
        except Damage as error:
            self.damage = str(error)
        try:
            for group, suffix, member in self._links:
                self._add_caption(group, suffix, archive.followed(member))
        except Damage as error:
            self.damage = self.damage or str(error)

    def lines(self) -> Iterator[Item | Skipped]:
        """Yield pictures, and what cannot be used, in the order of the archive.

        Raises:
            Damage: a picture cannot be read whole.
        """
        rows = [row for group in self._groups for row in _rows(group)]
        rows += [(number, line, None) for number, line in self._skipped]
        for _, line, member in sorted(rows, key=lambda row: row[0]):
            yield line if member is None or isinstance(line, Skipped) else self._picture(line, member)

    def _picture(self, line: Item, member: Member) -> Item | Skipped:
        found = self.archive.followed(member)
        if found is None:
            return Skipped(line.key, "is a link to a member that is not there")
        if found.size > MOST_PICTURE:
            return Skipped(line.key, f"is too large a file: {found.size:,} bytes; at most {MOST_PICTURE:,} are read")
        return replace(line, picture=io.BytesIO(self.archive.read(found, found.size)))

    def _add(self, number: int, member: Member) -> None:
        key, suffix = _key_and_suffix(member.name)
        end = f".{suffix.rpartition('.')[2]}"
        picture, caption = end in picture_suffixes(), end in CAPTION_SUFFIXES
        reason = "is a hidden file" if _hidden(member.name) else member.bad
        if reason:
            if picture or caption or member.bad or why_not(end):
                self._skipped.append((number, Skipped(member.name, reason)))
            return
        group = self._latest.get(key)
        if group is None or (group.complete and group.has(suffix) and not group.mixed):
            group = _Group(key, 1 if group is None else group.time + 1, first=number)
            self._latest[key] = group
            self._groups.append(group)
        group.mixed += group.has(suffix)
        self.last = group.name
        if picture:
            group.pictures[suffix] = number, member
        elif not caption:
            group.others.append(suffix)
        elif self.archive.followed(member) is None:
            self._links.append((group, suffix, member))
        else:
            self._add_caption(group, suffix, member)

    def _add_caption(self, group: _Group, suffix: str, member: Member | None) -> None:
        if member is None:  # a link to nothing
            group.others.append(suffix)
            return
        end = f".{suffix.rpartition('.')[2]}"
        most = MOST_JSON if end == ".json" else MOST_BYTES
        group.captions[suffix] = of_file(end, self.archive.read(member, most + 1))


Row = tuple[int, "Item | Skipped", "Member | None"]


def _rows(group: _Group) -> Iterator[Row]:
    """Yield (number in the archive, picture or reason, member) of each picture of a group."""
    if group.mixed:
        reason = f"has members of the same name that cannot be paired: {group.mixed} of them occur again"
        yield group.first, Skipped(group.name, reason), None
        return
    if not group.pictures:
        seen = [*group.captions, *group.others]
        reason = next((f": .{one} {why}" for one in seen if (why := why_not(f".{one.rpartition('.')[2]}"))), "")
        yield group.first, Skipped(group.name, f"has no picture{reason or ': it has .' + ', .'.join(seen)}"), None
        return
    plain = next((suffix for suffix in group.pictures if "." not in suffix), None)
    again = ("its name occurs again",) if group.time > 1 else ()
    for suffix, (number, member) in group.pictures.items():
        variant = suffix.rpartition(".")[0]
        key = group.name if len(group.pictures) == 1 and not variant else f"{group.name}.{suffix}"
        found = _captions(group, suffix, variant, own=plain is not None)
        if found.texts:
            yield number, Item(key, None, found.texts, (*again, *found.notes)), member
        else:
            yield number, Skipped(key, found.reason), None


def _captions(group: _Group, suffix: str, variant: str, own: bool) -> Captions:
    """Return the captions of one picture of a group.

    Args:
        variant: what stands between the key and the picture's own suffix, such as "v0" of KEY.v0.png.
        own: whether a variant needs captions of its own, because the group's belong to the picture without a variant.
    """
    ends = [one[1:] for one in CAPTION_SUFFIXES]
    names = [f"{variant}.{end}" if variant else end for end in ends] + [f"{suffix}.{end}" for end in ends]
    if variant and not own:
        names += ends
    found = chosen((name, group.captions[name]) for name in names if name in group.captions)
    if found.reason != NONE:
        return found
    seen = [one for one in (*group.captions, *group.others) if one not in names]
    if variant and own:
        return found._replace(reason=f"{NONE}: it is a variant of a picture without .{variant}")
    return found._replace(reason=NONE + (f": beside it are .{', .'.join(seen)}" if seen else ""))


def _key_and_suffix(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its file name; dots in the names of its folders do not count."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


def _hidden(name: str) -> bool:
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in name.split("/"))
