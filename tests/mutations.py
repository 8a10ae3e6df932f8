"""Hypothesis strategies that take something good, such as a configuration, and make one thing or a few in it wrong."""

import copy
import struct

from hypothesis import strategies as st

HUGE = 10**30
STRANGE = (
    None, True, False, 0, 1, -1, 2, 3, 1000, 10**7, 10**9, 2**63, HUGE, -HUGE, 0.0, -0.5, 0.5, 1e-300, 1e300, float("-inf"),
    "", "a", "1", "nan", "\x1b[31m", "../../x", "/dev/zero", "\udcff", [], [1], [1, 1], [0], [-1], ["a"], [None], [[1]], [1] * 3,
    [10**9] * 4, {}, {"a": 1},
)  # fmt: skip
"""Values of the wrong type, sign or size for almost any key."""


def places(value, path=()):
    """Return the path of every value inside a JSON value, the whole one included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inside for found in places(each, (*path, key)))]


@st.composite
def mutated(draw, good, most=3):
    """Draw a copy of a JSON value in which up to ``most`` values are strange, missing, wrapped, doubled or swapped."""
    found = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, most))):
        inner = [path for path in places(found) if path]
        if not inner:
            break
        path = draw(st.sampled_from(inner))
        parent = found
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]], gone = _changed(draw, parent[path[-1]])
        if gone:
            del parent[path[-1]]
    return found


def _changed(draw, value):
    """Return a changed value, and whether it is to be removed."""
    kind = draw(st.sampled_from(["strange", "strange", "strange", "gone", "listed", "text", "negated", "scaled"]))
    if kind == "gone":
        return value, True
    if kind == "listed":
        return [copy.deepcopy(value) for _ in range(draw(st.integers(0, 3)))], False
    if kind == "text":
        return str(value), False
    if kind in ("negated", "scaled") and isinstance(value, int | float):
        return -value if kind == "negated" else value * draw(st.sampled_from([2, 0.5, 10, 1e6])), False
    return copy.deepcopy(draw(st.sampled_from(STRANGE))), False


@st.composite
def damaged(draw, content):
    """Draw the bytes of a file that is cut, or in which a few bytes, or the first eight (a header's length), are others."""
    kind = draw(st.sampled_from(["cut", "bytes", "length", "doubled", "more"]))
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "length":
        length = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2 * len(content)), st.sampled_from([2**31, 2**63]))
        return struct.pack("<Q", draw(length)) + content[8:]
    if kind == "doubled":
        return content * 2
    if kind == "more":
        return content + draw(st.binary(min_size=1, max_size=64))
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        # the first half of the draws hit the header, where structure is
        found[draw(st.integers(0, min(len(found), 4000) - 1))] = draw(st.integers(0, 255))
    return bytes(found)
