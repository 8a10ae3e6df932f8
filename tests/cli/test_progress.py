"""One progress bar for all commands: a bar on a terminal, a line now and then in a log."""

import io

import pytest
from rich.console import Console

from singdiffusion.cli import common
from singdiffusion.cli.train import _reporter


@pytest.fixture
def log(monkeypatch):
    """Stderr that is a file, with a clock that each look moves on by 20 seconds."""
    out = io.StringIO()
    monkeypatch.setattr(common, "console", Console(file=out, width=40))
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(common.time, "monotonic", lambda: next(clock))
    return out


def test_a_log_gets_a_line_now_and_then(log):
    with common.progress("Painting [a]", 10) as advance:
        for _ in range(5):
            advance()
        advance(3, note="loss 0.5")
    assert log.getvalue() == "Painting [a]: 2 of 10\nPainting [a]: 4 of 10\nPainting [a]: 8 of 10, loss 0.5\n"


def test_other_processes_print_nothing(log):
    with common.progress("Painting", 10, shown=False) as advance:
        advance(7)
    assert log.getvalue() == ""


def test_a_terminal_gets_a_bar_that_leaves_nothing_behind(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(common, "console", Console(file=out, force_terminal=True, width=60))
    with common.progress("Painting", 10) as advance:
        advance(7, note="loss 0.5")
    assert "Painting: loss 0.5" in out.getvalue()
    assert "7/10" in out.getvalue()


def test_a_resumed_training_begins_at_its_own_step():
    seen = []
    report = _reporter(lambda count=1, *, note="": seen.append((count, note)))
    for step in (401, 402, 404):
        report({"step": step, "loss": 0.25, "pictures_per_second": 12.4})
    assert [count for count, _ in seen] == [401, 1, 2]
    assert seen[0][1] == "loss 0.25, 12 pictures/s"
