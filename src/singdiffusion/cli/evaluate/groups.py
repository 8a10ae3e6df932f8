"""Groups of command line options, each declared once, as a dataclass with an option per field."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from typing import Any, get_type_hints


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with a parameter per option, for typer, in place of each parameter whose type is a dataclass.

    Args:
        command: with keyword-only parameters; a group's fields take the place of its parameter in ``--help``.
    """
    # get_type_hints of Python 3.10 would wrap a parameter with the default None in Optional and hide its option
    hints = inspect.get_annotations(command, eval_str=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    def run(**options: Any) -> None:
        for name, group in groups.items():
            options[name] = group(**{field.name: options.pop(field.name) for field in fields(group)})
        command(**options)

    parameters = list(_parameters(inspect.signature(command), hints))
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _parameters(signature: inspect.Signature, hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    keyword = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    for name, parameter in signature.parameters.items():
        if is_dataclass(hints[name]):
            declared = get_type_hints(hints[name], include_extras=True)
            for field in fields(hints[name]):  # type: ignore[arg-type]
                yield keyword(field.name, default=_default(field), annotation=declared[field.name])
        else:
            yield keyword(name, default=parameter.default, annotation=hints[name])


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default
