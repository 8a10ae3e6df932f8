"""The logs of a run: ``log.jsonl`` and ``validation.jsonl`` in its folder, and the trackers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..errors import SingDiffusionError, reason
from ..files import write_whole
from ..reading import parse_json

TRAINING, VALIDATION = "log.jsonl", "validation.jsonl"
LONGEST = 10_000  # bytes of a line; ours have some hundred
LARGEST = 1e300


class RunLog:
    """Writes the figures of steps and validations. Only the main process writes files.

    Args:
        folder: of the run.
        accelerator: with its trackers.
        every: steps between two lines.
        report: takes a line for the user where a file must be put right.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, every: int, report: Callable[[str], None]):
        self.folder, self.accelerator, self.every, self.report = folder, accelerator, every, report

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
            wrong: list[str] = []
            rows = [row for row in read_lines(file, wrong.append) if row["step"] <= step]
            if wrong:
                self.report(f"{len(wrong)} lines that are no figures of a run are removed from {file}: {wrong[0]}")
            write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with (self.folder / name).open("a") as file:
                file.write(json.dumps(row) + "\n")


def read_lines(file: Path, wrong: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Return the lines of a .jsonl log: figures by name, ``step`` and ``loss`` among them.

    Args:
        file: the log; where it is missing there are no lines.
        wrong: takes what is wrong with a line that holds something else. The last one may be unfinished, as a killed run leaves it.

    Raises:
        SingDiffusionError: the file cannot be read.
    """
    rows = []
    for number, line in enumerate(_lines(file), 1):
        try:
            rows.append(_figures(line, f"line {number}"))
        except SingDiffusionError as error:
            if line.endswith(b"\n") or len(line) == LONGEST:
                wrong(str(error))
    return rows


def _lines(file: Path) -> Iterator[bytes]:
    if not file.exists():
        return
    if not file.is_file():
        raise SingDiffusionError(f"{file} is a folder, a pipe or a device, and must be a file: remove it to resume")
    try:
        with file.open("rb") as opened:
            while line := opened.readline(LONGEST):
                yield line
                while len(line) == LONGEST and not line.endswith(b"\n"):  # the rest of a line that is none of ours
                    line = opened.readline(LONGEST)
    except OSError as error:
        raise SingDiffusionError(f"{file} cannot be read: {reason(error)}") from error


def _figures(line: bytes, where: str) -> dict[str, Any]:
    row = parse_json(line, where)
    for name in ("step", "loss"):
        if name not in row:
            raise SingDiffusionError(f"{where} has no {name}")
    for name, value in row.items():
        if type(value) not in (int, float) or abs(value) > LARGEST:
            raise SingDiffusionError(f"{where}: {name} is not a number")
    if not isinstance(row["step"], int) or row["step"] < 1:
        raise SingDiffusionError(f"{where}: step is not a whole number of at least 1")
    return row
