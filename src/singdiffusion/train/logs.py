"""The logs of a run: ``log.jsonl`` and ``validation.jsonl`` in its folder, and the trackers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..files import write_whole

TRAINING, VALIDATION = "log.jsonl", "validation.jsonl"


class RunLog:
    """Writes the figures of steps and validations. Only the main process writes files.

    Args:
        folder: of the run.
        accelerator: with its trackers.
        every: steps between two lines.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, every: int):
        self.folder, self.accelerator, self.every = folder, accelerator, every

    def add_step(self, figures: dict[str, float]) -> None:
        """Log the figures of a step, ``step`` among them, if its turn has come."""
        step = int(figures["step"])
        if step % self.every:
            return
        self._append(TRAINING, figures)
        self.accelerator.log({k: v for k, v in figures.items() if k != "step"}, step=step)

    def add_validation(self, step: int, figures: dict[str, Any]) -> None:
        """Log the figures of a validation, in the place of an earlier one of the same step."""
        self.trim(VALIDATION, step - 1)
        self._append(VALIDATION, {"step": step} | figures)
        self.accelerator.log({f"validation/{k}": v for k, v in figures.items()}, step=step)

    def trim(self, name: str, step: int) -> None:
        """Drop the lines after a step: a killed run wrote them after its last checkpoint, and they will come again."""
        file = self.folder / name
        if self.accelerator.is_main_process and file.exists():
            rows = [row for row in read_lines(file) if row["step"] <= step]
            write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with (self.folder / name).open("a") as file:
                file.write(json.dumps(row) + "\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a .jsonl log, up to one that a killed run left unfinished."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
