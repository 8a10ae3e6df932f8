"""docs/gpu.md states what docs/gpu.json holds, and the benchmark that measured it still runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import cost_model, document, tables

ROOT = Path(__file__).parents[1]
FIGURES = json.loads((ROOT / "docs" / "gpu.json").read_text())


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)


def test_page_is_up_to_date():
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert page == document.page(FIGURES), "run: python -m benchmarks.gpu --write docs/gpu.json --out docs/gpu.md"


def test_no_row_failed():
    assert not [row for rows in FIGURES["sections"].values() for row in rows if {"error", "late"} & set(row)]


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ([0.01, 0.1], "does not hold: the best is 2 times below the low one"),
        ([0.6, 0.7], "does not hold: all are above the high one"),
        ([0.2, 0.5], "holds"),
        ([0.195, 0.52], "holds"),
        ([0.1, 0.25], "only the low one holds, for the best rows"),
        ([0.1, 0.4], "holds in part"),
    ],
)
def test_verdict_compares_with_the_range_of_an_assumption(shares, words):
    assert tables.verdict(shares, (0.2, 0.3, 0.5)) == words


def test_rates_are_medians_with_quartiles():
    assert tables.between({"median": 1234.5, "low": 10.0, "high": 0.01234, "count": 5}) == "1,230 (10.0 to 0.0123)"
    assert tables.between({"median": 20.0, "low": 20.0, "high": 20.0, "count": 1}) == "20.0"


@pytest.mark.slow
def test_flops_are_those_that_the_cost_model_counts():
    assert FIGURES["flops"] == json.loads(json.dumps(cost_model.count_flops()))


@pytest.mark.slow
def test_small_run_measures_every_section(tmp_path):
    file = tmp_path / "small.json"
    done = run("--small", "--json", file)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(file.read_text())
    assert found["sections"].keys() == FIGURES["sections"].keys()
    failed = [row for rows in found["sections"].values() for row in rows if {"error", "late"} & set(row)]
    assert not failed, failed[0]

    added = run("--small", "--json", file, "--sections", "text", "--add", "The text encoders are from the second run.")
    assert added.returncode == 0, added.stderr[-2000:]
    after = json.loads(file.read_text())
    assert (after["runs"], after["note"]) == (2, "The text encoders are from the second run.")
    assert after["sections"]["parts"] == found["sections"]["parts"]
