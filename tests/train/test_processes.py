"""Real processes: killed, stopped, several at once, on a full disk."""

import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from singdiffusion.data.manifest import read_metadata

from .world import Warm, as_file, descendants, finish, kill, logged, start


def weights(run):
    return load_file(run / "module" / "module" / "diffusion_pytorch_model.safetensors")


def wait_for(run, step, process, seconds=90):
    """Wait until a run has logged a step."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            rows = logged(run)
            if rows and rows[-1]["step"] >= step:
                return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached")


def test_the_command(world):
    out, _ = finish(start(as_file(world), "--json", world / "figures.json"))
    assert "TimeFreeUNet, 0.0" in out
    assert "fresh weights" in out
    assert "48 pictures, 10 held out; 8 per step, 5 steps per epoch; up to step 12" in out
    figures = json.loads((world / "figures.json").read_text())
    assert figures["step"] == 12
    assert (world / "run" / "module" / "sing_config.json").is_file()
    printed, _ = finish(start(as_file(world), "--dry-run"))
    assert '"rate": 0.003' in printed
    assert "TimeFreeUNet" in printed
    printed, _ = finish(start("sd15-paper", "--dry-run", "--shards", "nowhere"))
    assert '"micro_batch": 16' in printed
    assert printed.endswith("nowhere has no manifest.json yet; the size of the network follows from it\n")


@pytest.mark.parametrize(
    ("preset", "args", "expected"),
    [
        ("fine-tune", ["--init", "tiny"], {"kind": "unet", "init": "tiny", "init_module": None, "options": {}}),
        (
            "sd15-paper",
            ["--init-module", "tiny"],
            {"kind": "decoder", "init": None, "init_module": "tiny", "options": {}},
        ),
        ("sd15-decoder", ["--init-module", "tiny"], {"kind": "decoder", "init_module": "tiny", "options": {}}),
        ("sd15-decoder", ["--init-module", "tiny-unet"], {"kind": "unet", "init_module": "tiny-unet", "options": {}}),
    ],
)
def test_init_and_init_module_replace_the_presets(preset, args, expected):
    printed, _ = finish(start(preset, "--dry-run", "--shards", "nowhere", *args))
    network = json.loads(printed[: printed.rindex("}") + 1])["network"]
    assert {key: network[key] for key in expected} == expected


def test_starts_that_exclude_each_other_are_one_line():
    for preset, args, line in (
        (
            "sd15-decoder",
            ["--init", "tiny"],
            "a decoder cannot start from a base's U-Net: leave out init, or fine-tune",
        ),
        ("tiny-unet", ["--init", "tiny", "--init-module", "tiny-unet"], "init and init_module exclude each other"),
    ):
        _, err = finish(start(preset, "--dry-run", *args), 1)
        assert err.startswith("error: ")
        assert line in err


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--set", "steps=none"], "steps must be a whole number, not None"),
        (["--shards", "nowhere"], "nowhere has no manifest.json: run singdiffusion encode until it is complete"),
        (["--init", "tiny"], "the network has 4 latent channels|the network takes text of width 128"),
        (["--init-module", "nowhere"], "the module nowhere is not here: there is no such folder"),
    ],
)
def test_mistakes_are_one_line(world, args, line):
    import re

    file = as_file(world, network={}) if "--init" in args[0] else as_file(world)
    _, err = finish(start(file, *args), 1)
    lines = [row for row in err.splitlines() if row.strip()]
    assert len(lines) == 1, err
    assert re.search(line, lines[0]), err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_at_a_step_and_the_same_command_resumes(world, number, status):
    file = as_file(world, steps=200, checkpoints__every_steps=1000, validation__every=1000)
    whole = as_file(world, "whole.toml", steps=200, out=str(world / "whole"), validation__every=1000)
    process = start(file)
    wait_for(world / "run", 20, process)
    process.send_signal(number)
    _, err = finish(process, status)
    assert f"stopped by {signal.Signals(number).name} at step" in err
    assert "Traceback" not in err
    done = logged(world / "run")[-1]["step"]
    assert 20 <= done < 200
    assert (world / "run" / "module" / "sing_config.json").is_file()
    out, _ = finish(start(file))
    assert f"resumes after step {done}" in out
    finish(start(whole))
    assert logged(world / "run") == logged(world / "whole")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group_spares_the_workers(world, number, status):
    """As torchrun and a terminal send it: the processes that read batches must not die before the last step."""
    file = as_file(world, steps=5000, data__workers=2, checkpoints__every_steps=5000, validation__every=5000)
    process = start(file)
    wait_for(world / "run", 20, process)
    workers = descendants(process.pid)
    os.killpg(process.pid, number)
    _, err = finish(process, status)
    assert "Traceback" not in err
    done = logged(world / "run")[-1]["step"]
    assert (world / "run" / "checkpoints" / f"step-{done:08d}" / "progress.json").is_file()
    assert len(workers) >= 2
    assert ended(workers, 5)


def test_torchrun_stops(world):
    """It passes the signal on to everything that its processes have started, and has an exit status of its own."""
    file = as_file(world, steps=5000, data__workers=1, checkpoints__every_steps=5000, validation__every=5000)
    process = start(file, processes=2)
    wait_for(world / "run", 20, process)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 1
    done = logged(world / "run")[-1]["step"]
    assert (world / "run" / "checkpoints" / f"step-{done:08d}" / "progress.json").is_file()


def test_workers_end_with_their_process(world):
    """Although only SIGKILL ends them: when their process is killed, when one of them dies, and when their process fails."""
    rare = {"checkpoints__every_steps": 5000, "validation__every": 5000}
    file = as_file(world, steps=5000, data__workers=2, data__verify=False, **rare)
    for victims in (slice(0, 1), slice(2, 3)):
        process = start(file)
        wait_for(world / "run", 20, process)
        everyone = [process.pid, *descendants(process.pid)]
        assert len(everyone) == 3
        os.kill(*everyone[victims], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert ("error: a process that reads batches is gone: " in err) == (victims.start == 2)
        assert "Traceback" not in err
        assert ended(everyone, 30)
        shutil.rmtree(world / "run")
    for shard in (world / "shards").glob("shard-*"):
        metadata, stored = read_metadata(shard), load_file(shard)
        stored["latents.16x16"].fill_(float("nan"))
        save_file(stored, shard, {"singdiffusion": json.dumps(metadata)})
    _, err = finish(start(file), 1)
    assert "the loss is nan at step 1" in err


def ended(pids, seconds):
    """Return whether processes end within a time; a zombie has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states = subprocess.run(
            ["ps", "-o", "stat=", "-p", ",".join(map(str, pids))], capture_output=True, text=True, check=False
        )
        if all(state.startswith("Z") for state in states.stdout.split()):
            return True
        time.sleep(0.1)
    return False


def test_two_processes_are_one_with_all_the_pictures(world):
    """To float32 rounding: losses, validation, and the weights at the end."""
    finish(start(as_file(world, "one.toml", out=str(world / "one"))))
    finish(start(as_file(world, "two.toml", out=str(world / "two")), processes=2))
    progress = json.loads((world / "two" / "checkpoints" / "step-00000012" / "progress.json").read_text())
    assert progress["world"] == 2
    for name in ("log.jsonl", "validation.jsonl"):
        one, two = logged(world / "one", name), logged(world / "two", name)
        assert [list(row) for row in one] == [list(row) for row in two]
        for a, b in zip(one, two, strict=True):
            assert list(a.values()) == pytest.approx(list(b.values()), rel=2e-4, abs=1e-6)
    one, two = weights(world / "one"), weights(world / "two")
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=2e-4), key


@pytest.mark.slow
def test_a_second_run_with_two_processes_is_refused(world):
    """In both of its processes, so that none waits for the other."""
    file = as_file(world, steps=100_000, validation__every=100_000, checkpoints__every_steps=100_000)
    first = start(file)
    wait_for(world / "run", 5, first)
    _, err = finish(start(file, processes=2), 1)
    assert f"run is in use by process {first.pid} on " in err
    kill(first)


@pytest.mark.slow
def test_another_number_of_processes_resumes(world):
    """Two, then one: a line reports it, and losses are those of one process from the start."""
    constant = {"schedule__shape": "constant", "validation__every": 1000}
    finish(start(as_file(world, "one.toml", out=str(world / "one"), **constant)))
    finish(start(as_file(world, steps=8, **constant), processes=2))
    out, _ = finish(start(as_file(world, steps=12, **constant)))
    assert "resumes after step 8, with 1 processes instead of 2: the same pictures, up to float32 rounding" in out
    one, changed = ([row["loss"] for row in logged(world / name)] for name in ("one", "run"))
    assert changed == pytest.approx(one, rel=2e-4)


def test_a_process_that_dies_stops_the_others(world):
    file = as_file(world, steps=100_000, validation__every=100_000, checkpoints__every_steps=5)
    process = start(file, processes=2)
    wait_for(world / "run", 20, process)
    victim = descendants(process.pid)[-1]
    begun = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 60
    assert process.returncode != 0
    assert "stops: another process of the group is gone; start all of them again to resume after step-" in err
    done = max(int(p.name.split("-")[1]) for p in (world / "run" / "checkpoints").glob("step-*"))
    resuming = as_file(
        world, steps=done + 5, validation__every=100_000, checkpoints__every_steps=5, schedule__shape="cosine"
    )
    out, _ = finish(start(resuming, processes=2))
    assert f"resumes after step {done}" in out


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 3 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(where)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(world, small_disk):
    file = as_file(world, out=str(small_disk / "run"), steps=400, checkpoints__keep=50, validation__every=1000)
    _, err = finish(start(file), 1)
    lines = [row for row in err.splitlines() if row.strip()]
    assert len(lines) == 1, err
    assert "cannot write the checkpoint" in lines[0]
    kept = sorted((small_disk / "run" / "checkpoints").iterdir())
    assert kept
    assert f"the one before, {kept[-1].name}, is complete" in lines[0]
    done = int(kept[-1].name.split("-")[1])
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    out, _ = finish(start(file))
    assert f"resumes after step {done}" in out


def changed(file):
    """Return when a file was written last, 0 where it does not exist."""
    return file.stat().st_mtime_ns if file.exists() else 0


def killed_again_and_again(world, times, processes):
    """Compare a run that is killed at random moments with one that is not: losses, validation, weights."""
    options = {"steps": 50 * times, "validation__every": 60, "checkpoints__every_steps": 7}
    begin = Warm if processes == 1 else functools.partial(start, processes=processes)
    finish(begin(as_file(world, "whole.toml", out=str(world / "whole"), **options)))
    file, log, rng, resumed = as_file(world, **options), world / "run" / "log.jsonl", random.Random(0), set()
    for _ in range(times):
        before, process = changed(log), begin(file)
        resuming = changed(log) == 0
        while process.poll() is None and changed(log) == before:
            time.sleep(0.005)
        if not resuming:  # the first change cuts the log back to the checkpoint: mostly, wait for a step
            before = changed(log)
            while process.poll() is None and changed(log) == before and rng.random() < 0.9995:
                time.sleep(0.005)
        time.sleep(rng.random() * 2)  # between steps, within a checkpoint or a validation, or at the end
        resumed |= {line for line in kill(process).splitlines() if line.startswith("resumes after step")}
    finish(begin(file))
    assert len(resumed) >= times // 3, "it progressed between the kills"
    assert logged(world / "run") == logged(world / "whole")
    assert logged(world / "run", "validation.jsonl") == logged(world / "whole", "validation.jsonl")
    one, other = weights(world / "run"), weights(world / "whole")
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert all(path.name.startswith("step-") for path in (world / "run" / "checkpoints").iterdir())
    assert not list((world / "run").glob(".singdiffusion-*"))


def test_killed_three_times(world):
    killed_again_and_again(world, 3, processes=1)


@pytest.mark.slow
def test_killed_ten_times(world):
    killed_again_and_again(world, 10, processes=1)


@pytest.mark.slow
def test_killed_four_times_with_two_processes(world):
    killed_again_and_again(world, 4, processes=2)


@pytest.mark.slow
def test_fully_sharded(world):
    """FSDP by accelerate's own configuration: the losses of one process, a checkpoint in parts that resumes, a whole module."""
    constant = {"schedule__shape": "constant"}
    finish(start(as_file(world, "one.toml", out=str(world / "one"), **constant)))
    for steps in (8, 12):
        out, _ = finish(start(as_file(world, steps=steps, **constant), processes=2, module="tests.train.sharded"))
    assert "resumes after step 8" in out
    last = world / "run" / "checkpoints" / "step-00000012"
    assert (last / "pytorch_model_fsdp_0").is_dir(), "the network is cut up over the processes"
    one, two = ([row["loss"] for row in logged(world / name)] for name in ("one", "run"))
    assert two == pytest.approx(one, rel=2e-4)
    one, two = weights(world / "one"), weights(world / "run")
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=2e-4), key
