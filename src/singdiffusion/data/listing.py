"""List the pictures of a folder and its subfolders, and name what is not used there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from .formats import picture_suffixes, why_not
from .items import Skipped

# folders in which systems keep copies: macOS's archives, Synology's and QNAP's thumbnails, Windows's bin, Python's cache
COPIES = frozenset({"__MACOSX", "@eaDir", ".@__thumb", "$RECYCLE.BIN", "__pycache__"})


@dataclass
class Listing:
    """The files of a folder and its subfolders.

    Attributes:
        root: the folder.
        pictures: to use, in the order of their paths.
        others: other visible files, in the same order: captions, metadata, and whatever lies there.
        unused: pictures and folders that are not used, with the reason.
    """

    root: Path
    pictures: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    unused: list[Skipped] = field(default_factory=list)

    def key(self, path: Path) -> str:
        """Return the name of a file within the folder, with / between its parts."""
        return path.relative_to(self.root).as_posix()

    def examples(self, most: int = 2) -> str:
        """Return the first files and folders that are not used, with the reason, for a message; "" where there are none."""
        return "".join(f"; {line.key} {line.reason}" for line in self.unused[:most])


def list_folder(root: Path) -> Listing:
    """Return the files of a folder and its subfolders.

    Links to folders are followed. Every folder is read once, also where several links lead to it or a link leads back. Hidden folders
    and files (".name"), and folders in which systems keep copies, are not read.
    """
    found, seen, links = Listing(root), set(), [root]
    while links:  # folders first, so that a picture has the name of its folder and not that of a link
        folders = [links.pop(0)]
        while folders:
            folder = folders.pop()
            inner, linked = _read(folder, seen, found)
            folders += inner
            links += linked
    found.pictures.sort()
    found.others.sort()
    found.unused.sort(key=lambda line: line.key)
    return found


def _read(folder: Path, seen: set[tuple[int, int]], found: Listing) -> tuple[list[Path], list[Path]]:
    """Add a folder's files to those that were found; return its folders, and its links to folders."""
    name = found.key(folder) + "/"
    try:
        stat = folder.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            found.unused.append(Skipped(name, "is another name of a folder that is read"))
            return [], []
        seen.add((stat.st_dev, stat.st_ino))
        with os.scandir(folder) as entries:
            rows = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.unused.append(Skipped(name, f"cannot be read: {error.strerror}"))
        return [], []
    folders, links = [], []
    for entry in rows:
        path = folder / entry.name
        if not _is_folder(entry):
            _add_file(path, entry, found)
        elif entry.name.startswith(".") or entry.name in COPIES:
            found.unused.append(Skipped(found.key(path) + "/", "is a hidden folder or one of copies"))
        else:
            (links if entry.is_symlink() else folders).append(path)
    return folders, links


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _add_file(path: Path, entry: os.DirEntry, found: Listing) -> None:
    suffix = path.suffix.lower()
    picture, reason = suffix in picture_suffixes(), why_not(suffix)
    try:
        exists = entry.is_file()
    except OSError:
        exists = False
    if entry.name.startswith("."):
        reason = "is a hidden file" if picture or reason else None
    elif not exists:
        reason = "is a link to nothing" if entry.is_symlink() else "is not a file"
    elif picture:
        found.pictures.append(path)
    elif reason is None:
        found.others.append(path)
    if reason is not None:
        found.unused.append(Skipped(found.key(path), reason))
