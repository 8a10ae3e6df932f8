"""The training loop of the recipe: budgets, the learning rate, and a killed run that resumes to the same weights."""

import csv
import signal
import subprocess
import sys
import time

import pytest
import torch

from recipes.tiny.training import Budget, Stage, learning_rate

SCRIPT = """
import sys, time, torch
from pathlib import Path
from recipes.tiny import training
training.LOG_EVERY, training.SAVE_EVERY = 1, 0.0
folder, steps, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
torch.manual_seed(0)
stage = training.Stage("toy", folder, {"net": torch.nn.Linear(3, 3)}, 1e-2)

def loss_at(step):
    time.sleep(pause)
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return {"loss": (stage.networks["net"](x).float() - x.flip(1)).square().mean()}

training.plot = lambda log: None
stage.run(training.Budget(None, steps), loss_at)
torch.save(stage.averaged().state_dict(), folder / "final.pt")
"""


def start(folder, steps, pause):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(steps), str(pause)]
    return subprocess.Popen(command)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert start(straight, 30, 0).wait(timeout=120) == 0
    process = start(broken, 30, 0.2)
    deadline = time.monotonic() + 60
    log = broken / "toy.csv"
    while not (log.exists() and len(log.read_text().splitlines()) > 5) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (broken / "final.pt").exists()
    assert start(broken, 30, 0).wait(timeout=120) == 0
    ours, theirs = (torch.load(folder / "final.pt", weights_only=True) for folder in (broken, straight))
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key
    rows = list(csv.DictReader(log.open()))
    assert [int(row["step"]) for row in rows] == list(range(1, 31)), "no row twice, none missing"


def test_a_budget_ends_with_the_first_limit():
    assert Budget(None, 10).progress(1e9, 5) == 0.5
    assert Budget(2, None).progress(60, 10**9) == 0.5
    assert Budget(2, 10).progress(60, 9) == 0.9
    assert Budget(2, 10).progress(600, 0) == 1


def test_the_learning_rate_warms_up_holds_and_falls():
    assert learning_rate(1.0, 0.0, 0) == pytest.approx(1 / 200)
    assert learning_rate(1.0, 0.3, 1000) == 1.0
    assert learning_rate(1.0, 0.75, 1000) == pytest.approx(0.51)
    assert learning_rate(1.0, 1.0, 1000) == pytest.approx(0.02)


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    stage = Stage("nan", tmp_path, {"net": torch.nn.Linear(1, 1)}, 1e-3)

    def loss_at(step):
        bad = stage.networks["net"](torch.full((1, 1), float("nan"))).float().mean()
        return {"loss": bad}

    with pytest.raises(SystemExit, match="loss of nan is nan"):
        stage.run(Budget(None, 60), loss_at)
