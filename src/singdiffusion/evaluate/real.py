"""Real pictures to compare with: a folder of them, and what extractors see in them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.formats import COMMON, jpeg_suffixes
from ..data.listing import list_folder
from ..data.pictures import Unusable, fit, load
from ..errors import SingDiffusionError
from ..memory import require_memory
from .gallery import MOST_PIXELS
from .metrics.brightness import Lumas
from .metrics.crowd import Crowd, Statistics
from .metrics.features import BATCH
from .processes import Processes, everyone

PENDING = 8  # most batches of pictures of different sizes in memory
WAITING = 2**27  # most pixels of these: 0.4 GB
WORK = 36  # bytes per pixel that a network's resizing takes, with the picture in 8 bits and in float32
NAMED = 3  # unreadable files that a warning names


class RealPictures:
    """The pictures of a folder and its subfolders, in the order of their paths.

    With ``size``, each picture is scaled to cover a square (Lanczos, antialiased) and cropped in the middle. Without, it stays as it is,
    and only the extractor resizes it, as clean-fid does with folders.

    Args:
        folder: searched recursively, as ``data.listing.list_folder`` does.
        size: height and width in pixels; None: as they are, of any sizes.
        number: most pictures, drawn with a fixed seed; None: all.
        processes: each process reads its own share.

    Attributes:
        skipped: files that this process could not read, with the reason; filled while reading.
        changed: number of pictures per conversion that they needed, of this process; filled while reading.

    Raises:
        SingDiffusionError: the folder does not exist, or has fewer than two pictures.
    """

    def __init__(
        self, folder: Path, size: int | None = None, number: int | None = None, processes: Processes | None = None
    ):
        if not folder.is_dir():
            raise SingDiffusionError(f"there is no folder {folder} of real pictures", setting="real")
        listing = list_folder(folder)
        files = listing.pictures
        if len(files) < 2:
            raise SingDiffusionError(
                f"{folder} holds {len(files)} pictures, and at least 2 are needed ({COMMON}){listing.examples()}",
                setting="real",
            )
        if number is not None and number < len(files):
            files = sorted(random.Random(0).sample(files, max(2, number)))
        self.folder, self.size, self.files = folder, size, files
        self._mine = files if processes is None else processes.share(files)
        self._unused = [f"{line.key} {line.reason}" for line in listing.unused]
        self.skipped: list[str] = []
        self.changed: Counter[str] = Counter()

    def __len__(self) -> int:
        """Number of files, of all processes."""
        return len(self.files)

    @property
    def protocol(self) -> str:
        """How the pictures are prepared, in words."""
        if self.size is None:
            return "real pictures as they are"
        return f"real pictures scaled to cover {self.size} x {self.size} (Lanczos) and cropped in the middle"

    def batches(self, batch: int = BATCH) -> Iterator[Tensor]:
        """Yield this process's share: uint8 (B, 3, H, W), B <= ``batch``.

        Pictures of one size come together, so the order is not quite that of the files. Of large ones B is smaller.
        """
        waiting: dict[tuple[int, int], list[Tensor]] = {}
        pixels, number = lambda shape: math.prod(shape) * len(waiting[shape]), 0
        self.skipped, self.changed = [], Counter()
        for picture in self._read():
            shape = (picture.shape[1], picture.shape[2])
            waiting.setdefault(shape, []).append(picture)
            number += 1
            if number > PENDING * batch or sum(map(pixels, waiting)) > WAITING:
                shape = max(waiting, key=pixels)
            elif len(waiting[shape]) < batch and pixels(shape) < MOST_PIXELS:
                continue
            number -= len(waiting[shape])
            yield torch.stack(waiting.pop(shape))
        yield from (torch.stack(rest) for rest in waiting.values())

    def _read(self) -> Iterator[Tensor]:
        for file in self._mine:
            try:
                image, notes = load(file, smallest=1)
            except Unusable as error:
                self.skipped.append(f"{file.relative_to(self.folder)} {error}")
                continue
            require_memory(WORK * image.width * image.height, f"the real picture {file}", "real")
            self.changed.update(note.split(":")[0] for note in notes)  # after the colon come a picture's own numbers
            pixels = np.array(image) if self.size is None else fit(image, self.size, self.size).copy()
            yield torch.from_numpy(pixels).permute(2, 0, 1)

    def warnings(self) -> list[str]:
        """Return lines about skipped and converted files and JPEGs, of all processes; all must call it, after reading."""
        skipped = sorted(line for part in everyone(self.skipped) for line in part)
        changed = sum(everyone(self.changed), Counter())
        lines = []
        if skipped:
            lines.append(f"{len(skipped)} of {len(self.files)} files in {self.folder} were skipped: {_first(skipped)}")
        if self._unused:
            lines.append(f"{len(self._unused)} more in {self.folder} are not read: {_first(self._unused)}")
        if changed:
            counts = ", ".join(f"{note} ({count})" for note, count in sorted(changed.items()))
            lines.append(f"real pictures were converted: {counts}")
        jpegs = sum(file.suffix.lower() in jpeg_suffixes() for file in self.files)
        if jpegs:
            lines.append(
                f"{jpegs} of {len(self.files)} real pictures are JPEGs, whose artefacts alone move a Fréchet distance (clean-fid)"
            )
        return lines


def _first(lines: list[str]) -> str:
    return "; ".join(lines[:NAMED]) + ("; ..." if len(lines) > NAMED else "")


@dataclass
class Real:
    """What the extractors see in real pictures, computed once.

    Attributes:
        extractors: networks, as ``metrics.features.make_extractor`` returns them.
        statistics: per extractor.
        mean_lumas: of the pictures, float64 (N,); None where only statistics are known.
        notes: lines for the reader of a report.
    """

    extractors: Sequence[nn.Module]
    statistics: list[Statistics]
    mean_lumas: np.ndarray | None
    notes: list[str]

    @classmethod
    def of_pictures(
        cls, extractors: Sequence[nn.Module], batches: Iterable[Tensor], notes: Callable[[], list[str]] = list
    ) -> Real:
        """Read this process's share of the pictures, uint8 (B, 3, H, W); ``notes`` is called when all are read."""
        crowds, seen = [Crowd(extractor, which="real") for extractor in extractors], Lumas()
        for pictures in batches:
            seen.see(pictures)
            for crowd in crowds:
                crowd.see(pictures)
        return cls(extractors, [crowd.statistics() for crowd in crowds], seen.values(), notes())

    @classmethod
    def of_file(cls, extractors: Sequence[nn.Module], file: Path) -> Real:
        """Load saved statistics of one extractor's features.

        Raises:
            SingDiffusionError: there are several extractors, or the file does not hold statistics.
        """
        if len(extractors) != 1:
            raise SingDiffusionError(
                f"{file} holds statistics of one network's features; choose one extractor", setting="features"
            )
        width: Any = extractors[0].num_features
        return cls(extractors, [Statistics.load(file, width)], None, [])
