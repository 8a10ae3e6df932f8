"""Checkpoints: written beside their place and renamed, the last few kept, so that a run can be killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ..errors import SingDiffusionError

EMA, PROGRESS = "ema.safetensors", "progress.json"


@dataclass
class Progress:
    """How far a run is: optimizer steps, seconds of training, steps that the average has seen, and with how many processes."""

    step: int = 0
    seconds: float = 0.0
    averaged: int = 0
    world: int = 1


class CheckpointStore:
    """The checkpoints of a run, ``OUT/checkpoints/step-00001000``.

    Args:
        folder: of the run.
        keep: how many stay.
    """

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder / "checkpoints", keep

    def all(self) -> list[Path]:
        """Those that are whole, the oldest first."""
        return sorted(self.folder.glob("step-*"))

    def save(self, accelerator: Accelerator, progress: Progress, average: dict[str, torch.Tensor] | None) -> Path:
        """Write one. Every process must call this.

        Raises:
            SingDiffusionError: it cannot be written; what was there before is left.
        """
        target = self.folder / f"step-{progress.step:08d}"
        partial = self.folder / f"partial-{progress.step:08d}"
        if target.exists():
            return target
        try:
            if accelerator.is_main_process:
                self._clear()
                partial.mkdir(parents=True)
            accelerator.wait_for_everyone()
            accelerator.save_state(str(partial))
            if accelerator.is_main_process:
                if average is not None:
                    save_file(average, partial / EMA)
                (partial / PROGRESS).write_text(json.dumps(vars(progress)) + "\n")
        except Exception as error:  # torch and safetensors raise their own kinds for a full disk
            shutil.rmtree(partial, ignore_errors=True)
            if accelerator.is_main_process or not partial.exists():
                raise SingDiffusionError(self._cannot(target, error)) from error
            raise
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _sync(partial)
            os.replace(partial, target)
            for old in self.all()[: -self.keep]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()
        return target

    def _clear(self) -> None:
        """What a killed run left half-written."""
        for left in self.folder.glob("partial-*"):
            shutil.rmtree(left, ignore_errors=True)

    def _cannot(self, target: Path, error: Exception) -> str:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        last = self.all()
        kept = f"the one before, {last[-1].name}, is whole" if last else "there is none before"
        return f"cannot write the checkpoint {target}: {line[:160]}; {kept}"

    def load(self, accelerator: Accelerator) -> tuple[Progress, dict[str, torch.Tensor] | None] | None:
        """Put the last one's state into what the accelerator has prepared; None where there is none. Every process must call this.

        Raises:
            SingDiffusionError: it cannot be read.
        """
        there = self.all()
        if not there:
            return None
        last = there[-1]
        try:
            told = Progress(**json.loads((last / PROGRESS).read_text()))
            accelerator.load_state(str(last))
            file = last / EMA
            return told, load_file(file) if file.exists() else None
        except Exception as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            hint = f"; delete it to go on from {there[-2].name}" if len(there) > 1 else ""
            raise SingDiffusionError(f"the checkpoint {last} cannot be read: {line[:160]}{hint}") from error


def _sync(folder: Path) -> None:
    """Bring a folder's files to the disk, so that what is renamed outlives the machine."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a .jsonl log; a last line that a killed run left unfinished is passed over."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
