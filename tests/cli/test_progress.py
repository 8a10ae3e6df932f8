"""One progress bar for all commands: a bar on a terminal, a line now and then in a log."""

import io
import re

import pytest
from rich.console import Console

from singdiffusion.cli import app, common, evaluate, generate  # noqa: F401  (they register themselves)
from singdiffusion.cli.evaluate import run
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


@pytest.fixture
def lines(monkeypatch):
    """Runs a command, and returns the (done, total) of its progress at every change."""
    out = io.StringIO()
    monkeypatch.setattr(common, "console", Console(file=out, width=200))
    monkeypatch.setattr(common, "LINE_EVERY", -1.0)
    monkeypatch.setattr(run, "console", common.console)

    def lines(*words):
        app(list(map(str, words)), standalone_mode=False)
        return [
            (int(done), int(total)) for done, total in re.findall(r"^Painting.*: (\d+) of (\d+)", out.getvalue(), re.M)
        ]

    return lines


@pytest.mark.parametrize("scheduler", ["ddim", "heun", "pndm", "kdpm2"])
def test_generate_ends_at_its_total(lines, scheduler, tmp_path):
    """Also where the scheduler calls the model more often than there are steps."""
    words = ("generate", "a room", "--steps", 4, "--count", 2, "--compare", "--scheduler", scheduler, "--out", tmp_path)
    found = lines(*words)
    assert {total for _, total in found} == {2 * 2 * 4}
    assert [done for done, _ in found] == list(range(1, 17))


@pytest.mark.parametrize("scheduler", ["ddim", "heun"])
def test_evaluate_ends_at_its_total_and_never_goes_back(lines, scheduler, tmp_path):
    common = (
        "--steps",
        2,
        "--pictures",
        2,
        "--batch",
        3,
        "--device",
        "cpu",
        "--scheduler",
        scheduler,
        "--out",
        tmp_path,
    )
    found = lines("evaluate", "brightness", *common)
    assert {total for _, total in found} == {2 * 4 * 2}
    assert found[-1][0] == 16
    assert sorted(found) == found
    assert lines("evaluate", "brightness", *common)[-1] == (16, 16), "painted already"


@pytest.mark.slow
def test_evaluate_remedies_ends_at_its_total(lines, tmp_path):
    words = ("--steps", 1, "--pictures", 1, "--crowd", 2, "--pairs", 1, "--device", "cpu", "--out", tmp_path)
    found = lines("evaluate", "remedies", *words)
    assert found[-1] == (8 * (4 + 2), 8 * (4 + 2))
    assert {total for _, total in found} == {48}
    assert sorted(found) == found
