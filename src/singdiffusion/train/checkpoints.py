"""Checkpoints: each is written to a temporary folder and renamed, so that a run may be killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ..errors import SingDiffusionError, one_line
from ..reading import read_json

AVERAGE, PROGRESS = "ema.safetensors", "progress.json"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimizer steps done.
        seconds: time of training.
        averaged: steps that the averaged weights have seen.
        world: number of processes.
    """

    step: int = 0
    seconds: float = 0.0
    averaged: int = 0
    world: int = 1


class CheckpointStore:
    """The checkpoints of a run, ``OUT/checkpoints/step-00001000``.

    Args:
        folder: of the run.
        keep: number of checkpoints kept.
    """

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder / "checkpoints", keep

    def all(self) -> list[Path]:
        """Return the complete checkpoints, the oldest first."""
        return sorted(self.folder.glob("step-*"))

    def last(self) -> Path | None:
        """Return the last complete checkpoint."""
        return next(reversed(self.all()), None)

    def save(self, accelerator: Accelerator, progress: Progress, average: dict[str, torch.Tensor] | None) -> Path:
        """Write a checkpoint, unless this step has one. Every process must call this.

        Args:
            average: the averaged weights by name.

        Raises:
            SingDiffusionError: it cannot be written; the checkpoints before it stay.
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
                    save_file(average, partial / AVERAGE)
                (partial / PROGRESS).write_text(json.dumps(vars(progress)) + "\n")
        except Exception as error:  # torch and safetensors raise their own kinds for a full disk
            shutil.rmtree(partial, ignore_errors=True)
            if accelerator.is_main_process or not partial.exists():
                raise SingDiffusionError(self._write_error(target, error)) from error
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
        """Delete the incomplete checkpoints of a killed run."""
        for left in self.folder.glob("partial-*"):
            shutil.rmtree(left, ignore_errors=True)

    def _write_error(self, target: Path, error: Exception) -> str:
        last = self.last()
        kept = "there is no earlier one" if last is None else f"the one before, {last.name}, is complete"
        return f"cannot write the checkpoint {target}: {one_line(error, 160)}; {kept}"

    def load(self, accelerator: Accelerator) -> tuple[Progress, dict[str, torch.Tensor] | None] | None:
        """Load the last checkpoint into what the accelerator has prepared. Every process must call this.

        Returns:
            The progress, and the averaged weights by name if it has them; None where there is no checkpoint.

        Raises:
            SingDiffusionError: it cannot be read.
        """
        *earlier, last = self.all() or [None]
        if last is None:
            return None
        try:
            progress = Progress(**read_json(last / PROGRESS))
            accelerator.load_state(str(last))
            file = last / AVERAGE
            return progress, load_file(file) if file.exists() else None
        except Exception as error:  # torch and safetensors raise their own kinds for damaged files
            hint = f"; delete it to resume from {earlier[-1].name}" if earlier else ""
            raise SingDiffusionError(f"the checkpoint {last} cannot be read: {one_line(error, 160)}{hint}") from error


def _sync(folder: Path) -> None:
    """Flush a folder's files to the disk, so that they survive a crash of the machine once the folder is renamed."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
