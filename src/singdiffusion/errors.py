"""The exception for mistakes in the input, and one line for the errors of other libraries."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


# Characters that a terminal obeys or that turn the order of a line around: control characters apart from white space, marks of
# direction, halves of surrogate pairs.
OBEYED = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """Return a text from outside (a prompt, a file's name, another library's message) with escapes such as ``\\x1b`` written out.

    A terminal, a log and a page then show it and do not obey it. White space stays.
    """
    return OBEYED.sub(lambda found: ascii(found[0])[1:-1], str(text))


_LINES = re.compile(r"\s*[\r\n]\s*")  # a file's name or a value may have several


def visible_line(text: object) -> str:
    """Return a text from outside in one line, its words one space apart, as ``visible`` shows it."""
    return " ".join(visible(text).split())


# Options by which libraries advise to run the code that a file brings.
_ADVICE = re.compile(
    "weights_only|allow_pickle|trust_remote_code|pickle_module|safe_globals|remote code", re.IGNORECASE
)


class SingDiffusionError(ValueError):
    """A mistake in the input. Its message is one line that names the input, what is wrong with it and what would be right.

    Args:
        message: without flags of the command line.
        setting: name, in the API or in the configuration of a training, of the option to change; the command line adds its flag.
    """

    def __init__(self, message: str, setting: str | None = None):
        super().__init__(_LINES.sub(" ", visible(message)))
        self.setting = setting


def reason(error: BaseException) -> str:
    """Return why something failed: of an OSError the system's words without its number and file, otherwise one line."""
    return (isinstance(error, OSError) and error.strerror) or one_line(error)


def one_line(error: BaseException, longest: int = 240) -> str:
    """Return the first line of an error's message, with the second where it ends in a colon, or the name of its class.

    Advice to run the code in a file is never passed on.

    Args:
        error: of any library.
        longest: characters to keep; a longer line ends with "...".
    """
    first, *others = (str(error).strip() or type(error).__name__).splitlines()
    line = " ".join([first, *others[:1]]) if first.endswith(":") else first
    if _ADVICE.search(line):
        return "it holds more than data, and is not read because it could run code"
    return textwrap.shorten(line, longest, placeholder=" ...")


def install_hint(extra: str) -> str:
    """Return how to install the packages of an extra of this package, which is not on an index."""
    return f"install singdiffusion with its extra {extra!r} (in a clone: pip install '.[{extra}]')"


@contextmanager
def one_line_error(what: str) -> Iterator[None]:
    """Turn an error of a library inside the block into one line: ``what``, a colon, and the first line of its message.

    Args:
        what: what failed, such as "the model X cannot be read".

    Raises:
        SingDiffusionError: a library raised; our own errors pass unchanged.
    """
    try:
        yield
    except SingDiffusionError:
        raise
    except Exception as error:  # diffusers, transformers, safetensors and the hub raise many kinds
        raise SingDiffusionError(f"{what}: {reason(error)}") from error


_PLAIN = {  # pydantic's type of an error -> plain words
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "model_type": "must be an object",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
}
_WITHOUT_INPUT = ("missing", "extra_forbidden", "value_error", "json_invalid")


def validation_line(error: ValidationError, whole: str = "it") -> str:
    """Return the first mistake that pydantic found, such as "batch must be at least 1, not 0".

    Args:
        error: of ``model_validate``.
        whole: name of the input, for a mistake that is not in one field.
    """
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    name = name if all(part.isidentifier() for part in name.split(".")) else repr(name[:40])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{name}: {message}" if first["loc"] else message
    plain = _PLAIN.get(first["type"])
    words = f"is wrong: {message}" if plain is None else plain.format(**first.get("ctx", {}))
    given = "" if first["type"] in _WITHOUT_INPUT else f", not {_shown(first['input'])}"
    return f"{name if first['loc'] else whole} {words}{given}"


def _shown(value: object) -> str:
    try:
        return repr(value)[:40]
    except ValueError:  # Python does not write whole numbers of more than 4,300 digits
        return "a number of thousands of digits"
