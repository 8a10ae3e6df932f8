"""A small world to train in: flat pictures whose caption is their color, encoded by a random base."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import torch
from PIL import Image

from singdiffusion.data import encode, sources
from singdiffusion.data.base import Base
from singdiffusion.data.manifest import write_manifest
from singdiffusion.train.config import Config

from ..commands import ENV

COLORS = {"black": 0, "dark": 60, "grey": 128, "light": 190, "white": 255}
UNET = {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
DECODER = {"grid": 4, "width": 32, "layers": 2}


def encoded(pipe, folder, count=48, size=16, low_frequency=None, shapes=None, unit=20, words=()):
    """Write the base and its shards: folder/base, folder/shards. With words, each picture has a caption per word."""
    pipe.save_pretrained(folder / "base")
    (folder / "in").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        name = list(COLORS)[i % len(COLORS)]
        width, height = (shapes or [(size, size)])[i % len(shapes or [0])]
        pixels = np.clip(COLORS[name] + rng.normal(0, 20) + rng.normal(0, 5, (height, width, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "in" / f"{i:03d}.png")
        if words:
            rows = [{"file_name": f"{i:03d}.png", "text": f"{name} {word}"} for word in words]
            with (folder / "in" / "metadata.jsonl").open("a") as opened:
                opened.write("".join(json.dumps(row) + "\n" for row in rows))
        else:
            (folder / "in" / f"{i:03d}.txt").write_text(name)
    source = sources.open_source(str(folder / "in"), unit_size=unit)
    (folder / "shards").mkdir()
    options = encode.Options(size, buckets=shapes is not None, low_frequency=low_frequency, smallest=4)
    encode.encode(source, folder / "shards", Base.of(pipe, "random"), options)
    write_manifest(source, folder / "shards")
    return folder


def values(folder, **changes):
    """Return raw values of a configuration that trains there in seconds."""
    made = {
        "name": "small",
        "out": str(folder / "run"),
        "steps": 12,
        "batch": 8,
        "seed": 3,
        "ema": 0.9,
        "data": {"shards": str(folder / "shards"), "base": str(folder / "base"), "held_out": 10},
        "network": {"options": UNET},
        "optimizer": {"rate": 3e-3},
        "schedule": {"warm_up": 3},
        "checkpoints": {"every_steps": 4, "every_minutes": 60.0},
        "log": {"every": 1, "trackers": []},
        "validation": {"every": 6, "noises": 2},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            made.setdefault(section, {})[name] = value
        else:
            made[section] = value
    return made


def config(folder, **changes):
    return Config.model_validate(values(folder, **changes))


def decoder(**more):
    return {"network": {"kind": "decoder", "options": DECODER | more}}


def as_file(folder, name="run.toml", **changes):
    """Write the same as a TOML file."""
    lines, tables = [], []
    for key, value in values(folder, **changes).items():
        (tables if isinstance(value, dict) else lines).append((key, value))
    text = "".join(f"{k} = {json.dumps(v)}\n" for k, v in lines)
    for table, inner in tables:
        text += f"[{table}]\n" + "".join(_line(k, v) for k, v in inner.items())
    file = folder / name
    file.write_text(text)
    return file


def _line(key, value):
    if isinstance(value, dict):
        return f"{key} = {{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + " }\n"
    return f"{key} = {json.dumps(value)}\n"


def start(file, *args, processes=1, module="singdiffusion"):
    """Start ``singdiffusion train`` as real processes."""
    launch = [sys.executable, "-m"]
    if processes > 1:
        launch += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    command = [*launch, module, "train", "--config", str(file), "--device", "cpu", *map(str, args)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["singdiffusion.train.loop", "singdiffusion.cli.train", __name__])


class Warm:
    """``singdiffusion train`` on one process, forked from one that has imported the libraries: it starts at once."""

    def __init__(self, file):
        self._printed = file.with_suffix(".printed")
        self._process = _FORKS.Process(target=_command, args=(file, self._printed))
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    @property
    def returncode(self):
        return self._process.exitcode

    def communicate(self, timeout=None):
        self._process.join(timeout)
        text = self._printed.read_text()
        return text, text


def _command(file, printed):
    from singdiffusion.cli import main

    with printed.open("w", buffering=1) as opened:
        sys.stdout = sys.stderr = opened
        sys.argv = ["singdiffusion", "train", "--config", str(file), "--device", "cpu"]
        os.environ |= ENV
        torch.set_num_threads(1)
        main()


def finish(process, status=0):
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err[-2000:]
    return out, err


def descendants(pid):
    """Return the processes that a process has started, and those that they have started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [one for row in sorted(found.stdout.split(), key=int) for one in (int(row), *descendants(int(row)))]


def kill(process):
    """Kill a process and all that it has started; return what it had printed."""
    for pid in (*descendants(process.pid), process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return process.communicate()[0]


def logged(run, name="log.jsonl"):
    """Return what a run has logged, without the figures that depend on the clock."""
    rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("pictures_per_second", "input")} for row in rows]
