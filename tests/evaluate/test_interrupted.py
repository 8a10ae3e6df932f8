"""Real processes that are killed at random, share the work or fill the disk: pictures and figures are those of one quiet run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.commands import ENV, cli, start

ARGS = ("--pictures", 6, "--steps", 6, "--batch", 4, "--device", "cpu")


def figures(out):
    found = json.loads((out / "figures.json").read_text())
    return found["results"], [row["miss"] for row in found["summary"]]


def files(out):
    """Pictures and settings; not the figures, which contain the time."""
    return {
        file.relative_to(out): file.read_bytes() for file in sorted((out / "pictures").rglob("*")) if file.is_file()
    }


def launch(processes):
    """``accelerate launch``, as a user types it, on the CPU."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes)]
    return [*command, "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "singdiffusion"]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    out = tmp_path_factory.mktemp("quiet")
    cli("evaluate", "brightness", *ARGS, "--out", out)
    return out


@pytest.mark.slow
def test_killed_ten_times_at_random(quiet, tmp_path):
    rng = random.Random(3)
    killed = 0
    while killed < 10:
        process = start("evaluate", "brightness", *ARGS, "--out", tmp_path)
        time.sleep(rng.uniform(3.0, 8.0))
        if process.poll() is not None:  # done: remove some of the pictures
            process.communicate()
            for gallery in (tmp_path / "pictures").iterdir():
                for folder in [f for f in gallery.iterdir() if f.is_dir() and rng.random() < 0.5]:
                    shutil.rmtree(folder)
            continue
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
    cli("evaluate", "brightness", *ARGS, "--out", tmp_path)
    assert figures(tmp_path) == figures(quiet)
    left = files(tmp_path)
    assert {name: content for name, content in left.items() if ".partial" not in name.name} == files(quiet)


@pytest.mark.slow
def test_two_processes_are_one(quiet, tmp_path):
    args = [*launch(2), "evaluate", "brightness", *map(str, ARGS), "--out", str(tmp_path)]
    done = subprocess.run(args, env=ENV, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert figures(tmp_path) == figures(quiet)
    assert files(tmp_path) == files(quiet)


@pytest.mark.slow
def test_two_processes_agree_with_one_on_crowds(tmp_path):
    """Distances and text score to float rounding; the pictures to the bit."""
    args = [
        "evaluate",
        "fidelity",
        "--pictures",
        "21",
        "--steps",
        "3",
        "--guidance",
        "2",
        "--device",
        "cpu",
        "--features",
        "efficientnet",
    ]
    done = subprocess.run(
        [*launch(2), *args, "--out", str(tmp_path / "two")], env=ENV, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cli(*args, "--out", tmp_path / "one")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "figures.json").read_text())["results"] for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for key in ("frechet", "kernel", "precision", "recall"):
            assert a["fidelity"][0][key] == pytest.approx(b["fidelity"][0][key], rel=1e-6)
        assert a["text"]["score"] == pytest.approx(b["text"]["score"], rel=1e-5)
        assert a["text"]["pictures"] == b["text"]["pictures"] == 21
        assert (a["mean_luma"], a["brightness_distance"]) == pytest.approx(
            (b["mean_luma"], b["brightness_distance"]), rel=1e-9
        )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_one_line_and_nothing_half_written(quiet, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        _, err = cli("evaluate", "brightness", *ARGS, "--out", tmp_path / "out", "--cache", small, status=1)
        assert "No space left" in err
        first, *others = [line for line in err.splitlines() if line.strip()]
        assert first == "tiny on cpu, float32"
        assert len(others) == 1
        assert not list(small.rglob("*.partial"))
        kept = {file.name: file.read_bytes() for file in small.rglob("*.png")}
        assert kept
        expected = {file.name: file.read_bytes() for file in (quiet / "pictures").rglob("*.png")}
        assert kept.items() <= expected.items()
    finally:
        subprocess.run(["umount", str(small)], check=True)
