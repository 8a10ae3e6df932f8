"""Checkpoints: each is written beside its place and renamed, with a list of its files, so that a run may be killed at any moment."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..compat import weights_only
from ..errors import SingDiffusionError, reason
from ..reading import read_json
from ..staging import discard, staged
from .accelerator import lost_connection, on_main

AVERAGE, PROGRESS = "ema.safetensors", "progress.json"
_BLOCK = 2**22  # bytes read at once


class Progress(BaseModel):
    """How far a run is.

    Attributes:
        step: optimizer steps done.
        seconds: time of training.
        averaged: steps that the averaged weights have seen.
        world: number of processes.
        device: type of their devices, such as "cpu".
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    step: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    averaged: int = Field(default=0, ge=0)
    world: int = Field(default=1, ge=1)
    device: str = "cpu"


class Stored(BaseModel):
    """Size and checksum of a file. They find damage; against intent they do not help."""

    model_config = ConfigDict(strict=True, extra="forbid")

    bytes: int
    crc32: int


class Record(Progress):
    """The content of ``progress.json``.

    Attributes:
        files: the other files of the checkpoint, by their names in it.
    """

    files: dict[str, Stored]


class CheckpointStore:
    """The checkpoints of a run, ``OUT/checkpoints/step-00001000``.

    Args:
        folder: of the run.
        keep: number of checkpoints kept.
    """

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder / "checkpoints", keep

    def all(self) -> list[Path]:
        """Return the folders that have a checkpoint's name, the oldest first."""
        named = ((_step_of(path), path) for path in self.folder.glob("step-*") if path.is_dir())
        return [path for step, path in sorted((step, path) for step, path in named if step is not None)]

    def last(self) -> Path | None:
        """Return the last checkpoint."""
        return next(reversed(self.all()), None)

    # -- writing ------------------------------------------------------------------------------------------------------

    def save(self, accelerator: Accelerator, progress: Progress, average: dict[str, Tensor] | None) -> Path:
        """Write a checkpoint, unless this step has one. Every process must call this.

        Args:
            average: the averaged weights by name.

        Raises:
            SingDiffusionError: it cannot be written; the checkpoints before it stay.
        """
        target = self.folder / f"step-{progress.step:08d}"
        if target.exists():
            return target
        with ExitStack() as stack:
            with self._one_line(target):
                folder = self._new_folder(accelerator, stack, target)
                _write_states(accelerator, folder)
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                with self._one_line(target):
                    if average is not None:
                        save_file(average, folder / AVERAGE)
                    record = Record(**progress.model_dump(), files=_files(folder))
                    (folder / PROGRESS).write_text(json.dumps(record.model_dump()) + "\n", encoding="utf-8")
                    _sync(folder)
                    stack.close()  # renames the folder
                self._delete_old()
        accelerator.wait_for_everyone()
        return target

    def _new_folder(self, accelerator: Accelerator, stack: ExitStack, target: Path) -> Path:
        """Return a new folder for a checkpoint, which the main process makes for all; it is renamed when the stack closes."""
        found: list[str | None] = [None]
        if accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            new = stack.enter_context(staged(target))
            new.mkdir()
            found = [str(new)]
        if accelerator.num_processes > 1:
            broadcast_object_list(found)
        return Path(found[0] or "")

    @contextmanager
    def _one_line(self, target: Path) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # torch and safetensors raise their own kinds for a full disk
            if lost_connection(error):
                raise
            last = self.last()
            kept = "there is no earlier one" if last is None else f"the one before, {last.name}, is complete"
            raise SingDiffusionError(
                f"cannot write the checkpoint {target}: {reason(error.__cause__ or error)}; {kept}"
            ) from error

    def _delete_old(self) -> None:
        """Delete the oldest checkpoints: only folders that hold a checkpoint of ours and no other file."""
        for old in [path for path in self.all() if _holds_only_ours(path)][: -self.keep]:
            discard(old)

    # -- reading ------------------------------------------------------------------------------------------------------

    def load(self, accelerator: Accelerator) -> tuple[Progress, dict[str, Tensor] | None] | None:
        """Load the last checkpoint into what the accelerator has prepared. Every process must call this.

        Returns:
            The progress, and the averaged weights by name if it has them; None where there is no checkpoint.

        Raises:
            SingDiffusionError: a file is missing or damaged.
        """
        *earlier, last = self.all() or [None]
        if last is None:
            return None
        try:
            on_main(accelerator, lambda: require_whole(last))
            record = read_json(last / PROGRESS, Record)
            with weights_only(last):
                accelerator.load_state(str(last))
            _restore_random_state(accelerator, last, record)
            average = load_file(last / AVERAGE) if AVERAGE in record.files else None
        except Exception as error:  # torch and safetensors raise their own kinds for damaged files
            if lost_connection(error):
                raise
            after = f"resume from {earlier[-1].name}" if earlier else "begin again"
            raise SingDiffusionError(
                f"the checkpoint {last} cannot be read: {reason(error)}; delete it to {after}"
            ) from error
        return Progress(**record.model_dump(exclude={"files"})), average


def require_whole(folder: Path) -> None:
    """Check that a checkpoint has all of its files, as they were written. This reads each of them once.

    Raises:
        SingDiffusionError: one is missing or damaged; the message names it.
    """
    if not (folder / PROGRESS).is_file():
        raise SingDiffusionError(f"it lacks {PROGRESS}")
    record = read_json(folder / PROGRESS, Record)
    if record.step != _step_of(folder):
        raise SingDiffusionError(f"{PROGRESS} is of step {record.step}")
    # one after the other: a damaged file may hold any number of processes
    needed = chain(record.files, [AVERAGE] if record.averaged else [], map(_random_file, range(record.world)))
    for name in needed:
        if name not in record.files or not (folder / name).is_file():
            raise SingDiffusionError(f"it lacks {name}")
    found = _files(folder)
    damaged = [name for name, stored in record.files.items() if found.get(name) != stored]
    if damaged:
        raise SingDiffusionError(f"{damaged[0]} is damaged: it is not what was written")


def _step_of(folder: Path) -> int | None:
    """Return the step in a checkpoint's name, None for other names."""
    found = re.fullmatch(r"step-([0-9]{8,})", folder.name)
    return int(found[1]) if found and folder.name == f"step-{int(found[1]):08d}" else None


def _holds_only_ours(folder: Path) -> bool:
    try:
        record = read_json(folder / PROGRESS, Record)
    except SingDiffusionError:
        return False
    return record.step == _step_of(folder) and set(_names(folder)) <= {*record.files, PROGRESS}


def _names(folder: Path) -> list[str]:
    """Return the names of the files in a folder and its subfolders."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _files(folder: Path) -> dict[str, Stored]:
    """Return size and checksum of each file in a folder but ``progress.json``."""
    names = [name for name in _names(folder) if name != PROGRESS and (folder / name).is_file()]
    with ThreadPoolExecutor(4) as pool:  # zlib computes without Python's lock
        return dict(zip(names, pool.map(lambda name: _stored(folder / name), names), strict=True))


def _stored(file: Path) -> Stored:
    size = checksum = 0
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return Stored(bytes=size, crc32=checksum)


def _sync(folder: Path) -> None:
    """Flush a folder's files to the disk, so that they survive a crash of the machine once the folder is renamed."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# -- the states of a process ------------------------------------------------------------------------------------------


def _write_states(accelerator: Accelerator, folder: Path) -> None:
    """Write what accelerate has prepared, and the random state of this process.

    accelerate's own file of random states is replaced: it is a pickle, and accelerate resumes without a word where it cannot read it.
    """
    rank, device = accelerator.process_index, accelerator.device.type
    accelerator.save_state(str(folder))
    (folder / f"random_states_{rank}.pkl").unlink(missing_ok=True)
    states = {"cpu": torch.get_rng_state()}
    if device != "cpu":
        states[device] = getattr(torch, device).get_rng_state()
    save_file(states, folder / _random_file(rank))


def _restore_random_state(accelerator: Accelerator, folder: Path, record: Record) -> None:
    """Restore the random state of this process. One that the run did not have before keeps its own."""
    rank, device = accelerator.process_index, accelerator.device.type
    if rank >= record.world:
        return
    states = load_file(folder / _random_file(rank))
    torch.set_rng_state(states["cpu"])
    if device != "cpu" and device in states:
        getattr(torch, device).set_rng_state(states[device])


def _random_file(rank: int) -> str:
    return f"random-{rank}.safetensors"
