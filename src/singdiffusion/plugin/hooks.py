"""Wrapping a method of one pipeline object, so that it can be unwrapped again without a trace."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol


class Owner(Protocol):
    """Whoever places hooks; its hooks do nothing while it is not enabled."""

    @property
    def enabled(self) -> bool: ...


def _itself(value: Any) -> Any:
    return value


class Hook:
    """A pipeline's method followed by a function of ours, in the instance's own dictionary, over the class's method.

    A deep or pickled copy of the pipeline gets the method alone, bound to the copy: the copy is not plugged in.

    Args:
        pipe: the pipeline.
        name: of its method.
        owner: who places the hook.
        after: gets this hook, the method's result and its arguments by name; returns the result that the caller gets.
        warn: takes lines for the user.
    """

    def __init__(
        self,
        pipe: Any,
        name: str,
        owner: Owner,
        after: Callable[[Hook, Any, dict[str, Any]], Any],
        warn: Callable[[str], None],
    ):
        self._before = {name: vars(pipe)[name]} if name in vars(pipe) else {}
        self.original = getattr(pipe, name)
        self._signature = inspect.signature(self.original)
        self.name, self.warn, self._owner, self._after = name, warn, owner, after
        self._in_place = True
        functools.update_wrapper(self, self.original)
        vars(pipe)[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.original(*args, **kwargs)
        if not self.is_active:
            return result
        return self._after(self, result, self._signature.bind(*args, **kwargs).arguments)

    @property
    def is_active(self) -> bool:
        """Whether it is in place, and its owner enabled."""
        return self._in_place and self._owner.enabled

    def __deepcopy__(self, memo: dict) -> Any:
        return copy.deepcopy(self.original, memo)

    def __reduce__(self) -> Any:
        """A pickled pipeline holds the method alone, as a deep copy does."""
        return _itself, (self.original,)

    def remove(self, pipe: Any) -> None:
        """Restore what was there before; where somebody has wrapped this hook since, it stays and does nothing."""
        self._in_place = False
        if vars(pipe).get(self.name) is self:
            del vars(pipe)[self.name]
            vars(pipe).update(self._before)
