"""Real pictures to compare with: a folder of them, and how bright they are as a crowd."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.pictures import Unusable, fit, load
from ..data.sources import SUFFIXES
from ..errors import SingDiffusionError
from .metrics.features import BATCH
from .processes import Processes, everyone

JPEG_SUFFIXES = (".jpg", ".jpeg")
PENDING = 8  # batches of pictures of different sizes that are held at most
NAMED = 3  # unreadable files that a warning names


class RealPictures:
    """The pictures of a folder and its subfolders, in the order of their paths.

    Protocol: with ``size``, each is scaled to cover a square (Lanczos, antialiased) and cropped in its middle, as generated squares
    are compared; without, each stays as it is, and the extractor's own resizing is the only one, as with clean-fid on folders.

    Args:
        folder: searched recursively for ``data.sources.SUFFIXES``.
        size: height and width, in pixels; None: as they are, of any sizes.
        number: at most so many, drawn with a fixed seed; None: all.
        processes: each reads its own share.

    Attributes:
        skipped: files that this process could not read, and why; filled while reading.

    Raises:
        SingDiffusionError: there is no such folder, or it holds fewer than two pictures.
    """

    def __init__(
        self, folder: Path, size: int | None = None, number: int | None = None, processes: Processes | None = None
    ):
        if not folder.is_dir():
            raise SingDiffusionError(f"there is no folder {folder} of real pictures")
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if len(files) < 2:
            raise SingDiffusionError(
                f"{folder} holds {len(files)} pictures, and at least 2 are needed ({', '.join(SUFFIXES)})"
            )
        if number is not None and number < len(files):
            files = sorted(random.Random(0).sample(files, max(2, number)))
        self.folder, self.size, self.files = folder, size, files
        self._mine = files if processes is None else processes.share(files)
        self.skipped: list[str] = []

    def __len__(self) -> int:
        """Files, of all processes."""
        return len(self.files)

    @property
    def protocol(self) -> str:
        if self.size is None:
            return "real pictures as they are"
        return f"real pictures scaled to cover {self.size} x {self.size} (Lanczos) and cropped in the middle"

    def batches(self, batch: int = BATCH) -> Iterator[Tensor]:
        """This process's share: uint8 (B, 3, H, W), B <= ``batch``; pictures of one size together, so not quite in the files' order."""
        waiting: dict[tuple[int, int], list[Tensor]] = {}
        self.skipped = []
        for picture in self._read():
            shape = (picture.shape[1], picture.shape[2])
            waiting.setdefault(shape, []).append(picture)
            if sum(map(len, waiting.values())) > PENDING * batch:
                shape = max(waiting, key=lambda key: len(waiting[key]))
            elif len(waiting[shape]) < batch:
                continue
            yield torch.stack(waiting.pop(shape))
        yield from (torch.stack(rest) for rest in waiting.values())

    def _read(self) -> Iterator[Tensor]:
        for file in self._mine:
            try:
                image = load(file, smallest=1)[0]
            except Unusable as error:
                self.skipped.append(f"{file.relative_to(self.folder)} {error}")
                continue
            pixels = np.array(image) if self.size is None else fit(image, self.size, self.size).copy()
            yield torch.from_numpy(pixels).permute(2, 0, 1)

    def warnings(self) -> list[str]:
        """Lines on what was skipped and on JPEGs, of all processes, on each of them; all must ask, after reading."""
        skipped = sorted(line for part in everyone(self.skipped) for line in part)
        lines = []
        if skipped:
            named = "; ".join(skipped[:NAMED]) + ("; ..." if len(skipped) > NAMED else "")
            lines.append(f"{len(skipped)} of {len(self.files)} files in {self.folder} were skipped: {named}")
        jpegs = sum(file.suffix.lower() in JPEG_SUFFIXES for file in self.files)
        if jpegs:
            lines.append(
                f"{jpegs} of {len(self.files)} real pictures are JPEGs, whose artefacts alone move a Fréchet distance (clean-fid)"
            )
        return lines
