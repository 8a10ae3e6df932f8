"""One line for every error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from singdiffusion import SingDiffusionError
from singdiffusion.errors import one_line, one_line_error, validation_line


@given(st.text())
def test_one_line_of_any_message(text):
    line = one_line(RuntimeError(text))
    assert "\n" not in line
    assert 0 < len(line) <= 240


def test_an_error_without_a_message_has_its_class_as_its_line():
    assert one_line(KeyError()) == "KeyError"
    assert one_line(OSError("first\nsecond")) == "first"


def test_errors_of_libraries_get_a_beginning_and_ours_pass():
    with pytest.raises(SingDiffusionError, match="^the model x cannot be read: no such key$") as raised:
        with one_line_error("the model x cannot be read"):
            raise RuntimeError("no such key\nmore")
    assert isinstance(raised.value.__cause__, RuntimeError)
    with pytest.raises(SingDiffusionError, match="^ours$") as raised:
        with one_line_error("the model x cannot be read"):
            raise SingDiffusionError("ours", setting="model")
    assert raised.value.setting == "model"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    rate: float = Field(1.0, ge=0)


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    steps: int = Field(ge=1)
    part: Part = Part()

    @model_validator(mode="after")
    def _not_thirteen(self):
        if self.steps == 13:
            raise ValueError("steps must not be 13")
        return self


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "steps is missing"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"steps": "1"}, "steps must be a whole number, not '1'"),
        ({"steps": 1, "nope": 2}, "nope is unknown"),
        ({"steps": 1, "a b": 2}, "'a b' is unknown"),
        ({"steps": 1, "part": {"rate": float("nan")}}, "part.rate must be a finite number, not nan"),
        ({"steps": 1, "part": 3}, "part must be an object, not 3"),
        ({"steps": 13}, "steps must not be 13"),
        (5, "the file must be an object, not 5"),
    ],
)
def test_pydantics_mistakes_in_plain_words(values, line):
    with pytest.raises(ValidationError) as raised:
        Whole.model_validate(values)
    assert validation_line(raised.value, "the file") == line


def test_a_mistake_is_one_line_whatever_it_names():
    assert (
        str(SingDiffusionError("a name\n of \r\n two\x1b lines  and spaces")) == "a name of two\\x1b lines  and spaces"
    )
