"""The purpose of it all, measured: the flaw is real on the embedded base, and the first step cures it."""

import json
import os
import re
import subprocess
import sys

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo as a user runs it, with four pictures a prompt."""
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "singdiffusion", "demo", "--pictures", "4", "--out", out, "--json", out / "f.json"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, timeout=400)
    assert done.returncode == 0, done.stderr[-800:]
    return out, json.loads((out / "f.json").read_text()), done


def misses(figures):
    return {
        row["prompt"]: tuple(abs(row[key]["mean"] - row["real"]["mean"]) for key in ("off", "on"))
        for row in figures["prompts"]
    }


def test_solid_grounds_are_off_by_sixty_without_and_within_twelve_with(demo):
    missed = misses(demo[1])
    for prompt in ("solid black background", "solid white background"):
        off, on = missed[prompt]
        assert off >= 60, prompt
        assert on <= 12, prompt


def test_the_miss_over_all_four_prompts_falls_fourfold(demo):
    missed = misses(demo[1])
    assert len(missed) == 4
    off, on = (sum(values) for values in zip(*missed.values(), strict=True))
    assert on <= off / 4


def test_line_art_is_nearer_with_it(demo):
    for prompt, (off, on) in misses(demo[1]).items():
        assert on < off, prompt


def test_the_settings_are_the_papers(demo):
    settings = demo[1]["settings"]
    assert (settings["steps"], settings["guidance"], settings["scheduler"]) == (50, 7.5, "DDIMScheduler leading")
    assert demo[1]["model"] == "tiny"
    assert demo[1]["seconds"] > 0


def test_page_grid_and_table(demo):
    out, figures, done = demo
    page = (out / "index.html").read_text()
    assert len(re.findall("<img ", page)) == 4 * 4 * 2
    for row in figures["prompts"]:
        assert row["prompt"] in page
        assert f"{row['on']['mean']:.1f} ± {row['on']['std']:.1f}" in page
        assert f"{row['on']['mean']:.1f} ± {row['on']['std']:.1f}" in done.stderr
    grid = Image.open(out / "grid.png")
    assert grid.width > 4 * 128
    assert "index.html" in done.stdout
    assert "Warning" not in done.stderr
