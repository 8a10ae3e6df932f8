"""A run of the benchmark: its device, its time, and the JSON file that holds every row."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import singdiffusion
from singdiffusion.errors import SingDiffusionError
from singdiffusion.files import write_whole
from singdiffusion.reading import read_json

from .cost_model import processor
from .networks import FULL, SMALL
from .timing import Row, clear

Rows = Iterator[Callable[[], Row]]
"""The rows of a section, each still to be measured."""


@dataclass(eq=False)
class Bench:
    """A run of the benchmark.

    Attributes:
        file: the JSON file.
        scratch: a folder for temporary files.
        small: tiny networks on the CPU in place of full ones on the GPU.
        seconds: no row starts later than this.
        note: where given, ``file`` keeps its rows of sections that this run does not measure; the page prints the note.
        figures: the content of ``file``.
    """

    file: Path
    scratch: Path
    small: bool
    seconds: float
    note: str | None = None
    started: float = field(default_factory=time.monotonic)
    figures: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.device = torch.device("cpu" if self.small else "cuda")
        self.models = SMALL if self.small else FULL
        self.figures = {"device": self.describe(), "runs": 1, "sections": {}}
        if self.note is not None:
            before = read_json(self.file)
            if before["device"].get("card") != self.figures["device"].get("card"):
                raise SingDiffusionError(f"{self.file} holds figures of another device: {before['device'].get('card')}")
            self.figures = before | {"runs": before["runs"] + 1, "note": self.note}

    def describe(self) -> dict[str, Any]:
        """Return what the figures were measured on."""
        versions = {"singdiffusion": singdiffusion.__version__, "torch": torch.__version__.split("+")[0]}
        details: dict[str, Any] = versions | {"small": self.small}
        if self.device.type == "cuda":
            card = torch.cuda.get_device_properties(0)
            details |= {"card": card.name, "memory_gib": card.total_memory / 2**30, "cuda": torch.version.cuda}
            details |= {"cudnn": torch.backends.cudnn.version(), "processor": processor()}
        return details

    @property
    def elapsed(self) -> float:
        """Seconds since the run started."""
        return time.monotonic() - self.started

    def budget(self, full: float) -> float:
        """Return seconds of repetition: ``full`` on a GPU, fewer in a small run."""
        return min(full, 0.3) if self.small else full

    def save(self) -> None:
        """Write the JSON file."""
        self.figures["seconds"] = round(self.elapsed, 1)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, json.dumps(self.figures, indent=1) + "\n")

    def run(self, name: str, rows: Rows) -> None:
        """Measure the rows of a section; one that fails leaves the others."""
        section = self.figures["sections"][name] = []
        started = time.monotonic()
        for measure in rows:
            late = self.elapsed > self.seconds
            row = {"late": True} if late else _guarded(measure)
            clear()
            section.append(row)
            print(f"{self.elapsed:6.1f} s  {name}: {json.dumps(row, default=str)[:300]}", flush=True)
            self.save()
            if late:
                break
        self.figures.setdefault("took", {})[name] = round(time.monotonic() - started, 1)
        self.save()


def _guarded(measure: Callable[[], Row]) -> Row:
    try:
        return measure()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:600], "where": traceback.format_exc()[-1500:]}
