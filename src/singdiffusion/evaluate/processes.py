"""One process or several under ``accelerate launch`` or ``torchrun``: how work is shared and results are collected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Processes:
    """The processes of this run, by accelerate; a single one where nothing was launched.

    Args:
        cpu: stay on the CPU where there is a GPU.
    """

    def __init__(self, cpu: bool = False):
        from accelerate import PartialState

        self._state = PartialState(cpu=cpu)

    @property
    def count(self) -> int:
        """Number of processes."""
        return self._state.num_processes

    @property
    def first(self) -> bool:
        """Whether this is the process that prints, and writes what all have in common."""
        return self._state.is_main_process

    @property
    def device(self) -> Any:
        """Device of this process, chosen by accelerate: each process has a GPU of its own."""
        return self._state.device

    def share(self, work: Sequence[T]) -> list[T]:
        """Return this process's share of a list that all processes have; each entry goes to one of them."""
        return list(work[self._state.process_index :: self.count])

    def wait(self) -> None:
        """Wait until all processes are here."""
        self._state.wait_for_everyone()

    def agree(self, find: Callable[[], T]) -> T:
        """Return in all processes what ``find`` returns in the first one; only that one calls it."""
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [find() if self.first else None]
        return broadcast_object_list(found)[0] if self.count > 1 else found[0]

    def gather(self, mine: Sequence[T]) -> list[T]:
        """Undo ``share``: return the results of all processes in the order of the list; all processes must call it.

        Args:
            mine: a result per entry of this process's share.
        """
        from accelerate.utils import gather_object

        if self.count == 1:
            return list(mine)
        parts = gather_object([list(mine)])
        return [part[i] for i in range(max(map(len, parts))) for part in parts if i < len(part)]


def everyone(mine: T) -> list[T]:
    """Return the values of all processes, in each of them; all processes must call it."""
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts
