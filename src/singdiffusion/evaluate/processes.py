"""One process or several under ``accelerate launch`` or ``torchrun``: who does what, and what all of them found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Processes:
    """The processes of this run, by accelerate; one, where nothing was launched.

    Args:
        cpu: stay on the CPU where there is a GPU.
    """

    def __init__(self, cpu: bool = False):
        from accelerate import PartialState

        self._state = PartialState(cpu=cpu)

    @property
    def count(self) -> int:
        return self._state.num_processes

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes what all have in common."""
        return self._state.is_main_process

    @property
    def device(self) -> Any:
        return self._state.device

    def share(self, work: Sequence[T]) -> list[T]:
        """What of a list that all have is for this process: each entry for one of them."""
        return list(work[self._state.process_index :: self.count])

    def wait(self) -> None:
        self._state.wait_for_everyone()

    def agree(self, find: Callable[[], T]) -> T:
        """What the first process finds, in all of them."""
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [find() if self.first else None]
        return broadcast_object_list(found)[0] if self.count > 1 else found[0]

    def gather(self, mine: Sequence[T]) -> list[T]:
        """Undo ``share``: what each process made of its entries, in the order of the list."""
        from accelerate.utils import gather_object

        if self.count == 1:
            return list(mine)
        parts = gather_object([list(mine)])
        return [part[i] for i in range(max(map(len, parts))) for part in parts if i < len(part)]


def everyone(mine: T) -> list[T]:
    """What each process holds, on all of them."""
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts
