"""A folder that one process holds: others are refused in one line, and a dead process's lock is free."""

import os
import signal
import subprocess
import sys

import pytest

from singdiffusion import SingDiffusionError
from singdiffusion.locks import locked

HOLDER = """
import os, sys, time
from pathlib import Path
from singdiffusion.locks import locked
with locked(Path(sys.argv[1]), "train"):
    if len(sys.argv) > 2 and os.fork() == 0:
        time.sleep(1)  # a worker that inherited the lock, and ends a little later than its parent
        os._exit(0)
    print("locked", flush=True)
    time.sleep(60)
"""


def start(*arguments: object) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


@pytest.mark.parametrize("more", [(), ("child",)])
def test_a_second_process_is_refused_and_a_dead_ones_lock_is_free(tmp_path, more):
    process = start(tmp_path, *more)
    with pytest.raises(
        SingDiffusionError, match=rf"{tmp_path} is in use by process {process.pid} on .*; wait"
    ) as caught:
        with locked(tmp_path, "train"):
            pass
    assert "\n" not in str(caught.value)
    with locked(tmp_path, "encode"):  # another task
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with locked(tmp_path, "train"):
        pass
    with locked(tmp_path, "train"):
        pass


def test_a_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SingDiffusionError, match="cannot lock"), locked(tmp_path / "file", "train"):
        pass
