"""The examples of the documents, run as they stand."""

import subprocess
import sys
from pathlib import Path

import pytest

from singdiffusion import SingDiffusion, tiny

from .commands import ENV, cli

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(*args):
    command = [sys.executable, str(EXAMPLES / "fifty_pictures.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=ENV).stdout


def greys(printed):
    return {line[:34].strip(): float(line[34:]) for line in printed.splitlines() if line.startswith("  ")}


@pytest.mark.slow
def test_fifty_pictures_teach_a_word(tmp_path):
    """Midnight becomes dark, and what was said of the ground before still holds."""
    assert example("write", tmp_path / "in") == f"50 pictures in {tmp_path / 'in'}\n"
    out, _ = cli("encode", tmp_path / "in", tmp_path / "shards", "--base", "tiny", "--smallest", 64)
    assert out.startswith("50 pictures in 1 shard")
    run = tmp_path / "run"
    cli("train", "--config", "fine-tune", "--init-module", "tiny", "--shards", tmp_path / "shards", "--out", run)
    before, after = (
        greys(example("compare", "tiny", "--count", 4)),
        greys(example("compare", run / "module", "--count", 4)),
    )
    for thing in ("red apple", "rocket", "sunflower"):
        assert after[f"{thing} at midnight"] < before[f"{thing} at midnight"] - 20
    assert abs(after["solid white background"] - before["solid white background"]) < 5
    assert abs(after["rocket on a white background"] - before["rocket on a white background"]) < 20
    SingDiffusion.from_pretrained(run / "module").enable(
        tiny.load_pipeline(model="tiny-community")
    )  # which has another text
