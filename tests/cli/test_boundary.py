"""Every command ends at one place: a status, and one line that is shown and not obeyed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from singdiffusion import SingDiffusionError
from singdiffusion.cli import boundary
from tests.commands import Refusals, start, together


def ended(raised: BaseException, capfd, debug: bool = False) -> tuple[int, str]:
    def command() -> None:
        raise raised

    status = boundary.run(command, str, debug)
    return status, capfd.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (SingDiffusionError("size must be 8\nor more"), 1, "error: size must be 8 or more\n"),
        (SingDiffusionError("a \x1b[31mred\x07 name \u202e"), 1, "error: a \\x1b[31mred\\x07 name \\u202e\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; finished files are kept, none is half-written\n"),
        (boundary.Terminated(), 143, "error: stopped by SIGTERM; finished files are kept, none is half-written\n"),
        (FileNotFoundError(2, "No such file or directory", "a\x1b"), 1, "error: a\\x1b: No such file or directory\n"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device\n"),
        (MemoryError(), 1, "error: the memory is full: MemoryError\n"),
        (RuntimeError("CUDA out of memory. Tried\nmore"), 1, "error: the memory is full: CUDA out of memory. Tried\n"),
        (SystemExit(3), 3, ""),
    ],
)
def test_known_errors(raised, status, line, capfd):
    assert ended(raised, capfd) == (status, line)


def test_an_unexpected_error_names_the_file_of_its_traceback(capfd, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("tempfile.tempdir", str(tmp_path))
        status, err = ended(KeyError("a\nb"), capfd)
    (file,) = tmp_path.iterdir()
    assert status == 1
    assert err == f"error: unexpected KeyError: 'a\\nb'; the traceback is in {file} (--debug prints it)\n"
    assert "raise raised\nKeyError: 'a\\nb'" in file.read_text()
    with monkeypatch.context() as patched:
        patched.setattr("tempfile.tempdir", str(tmp_path / "missing"))
        _, err = ended(KeyError("a"), capfd)
    assert "the traceback is in no file, because none could be written" in err


def test_debug_prints_the_traceback(capfd):
    for raised in (KeyError("a"), SingDiffusionError("b")):
        status, err = ended(raised, capfd, debug=True)
        assert status == 1
        assert err.startswith("Traceback (most recent call last)")
        assert err.splitlines()[-1].startswith("error: ")


def test_debug_stands_anywhere():
    found = together(["audit", "--debug", "a/b/c"], ["--debug", "audit", "a/b/c"], ["audit", "--", "--debug"])
    assert [(status, "Traceback" in err) for status, err in found] == [(1, True), (1, True), (1, False)]


def test_empty_arguments_are_wrong_usage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Refusals() as commands:
        commands.refused("generate", "a cat", "--out", "", match="the value of --out is empty", status=2)
        commands.refused("generate", "a cat", "--out=", match="the value of --out is empty", status=2)
        commands.refused("audit", "tiny", "--json", "", match="the value of --json is empty", status=2)
        commands.refused("encode", "", "b", "--base", "tiny", match="an argument is empty", status=2)
        commands.refused("convert", "tiny", "", match="an argument is empty", status=2)
        commands.refused("generate", "", "--out", "b", match="a prompt is empty", status=1)
        commands.refused("generate", "a", "--out", "b", "--negative", "", "--steps", "0", match="--steps", status=2)
    assert not list(tmp_path.iterdir())


PROGRAM = """
import sys, time
import numpy as np
from singdiffusion.cli import boundary
large = np.random.rand(4000, 4000)
boundary.GRACE = 0.3
def wait():
    print("ready", flush=True)
    {work}
sys.exit(boundary.run(wait, str, False))
"""


@pytest.mark.parametrize(
    ("work", "line"),
    [
        ("time.sleep(60)", "error: stopped by SIGTERM; finished files are kept, none is half-written\n"),
        # a library that computes for long, without Python
        ("np.linalg.svd(large)", "error: stopped by SIGTERM\n"),
    ],
)
def test_sigterm_leaves_a_line(work, line):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM.format(work=work)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, line)
    assert time.monotonic() - begun < 5


def test_who_ignores_sigterm_still_does_while_the_line_is_printed():
    """Training does, when its group is gone and torchrun ends whoever is left."""
    code = (
        "import os, signal\nfrom singdiffusion.cli import boundary\n"
        "def command():\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    raise ValueError\n"
        "def describe(_):\n    return ''\n"
        "say = boundary._say\n"
        "def late(line, status):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return say(line, status)\n"
        "boundary._say = late\n"
        "raise SystemExit(boundary.run(command, describe, True))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: unexpected ValueError" in done.stderr


def test_a_child_process_ends_at_sigterm_as_usual():
    work = (
        "import os, signal; child = os.fork()\n"
        "    if child == 0: time.sleep(60)\n"
        "    time.sleep(0.2); os.kill(child, signal.SIGTERM)\n"
        "    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM; time.sleep(0.6)"
    )
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(work=work)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_sigterm_while_painting_keeps_finished_pictures(tmp_path):
    process = start("generate", "a cat", "--out", tmp_path, "--count", "500", "--steps", "2")
    while not list(tmp_path.glob("*.png")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.splitlines()[-1] == "error: stopped by SIGTERM; finished files are kept, none is half-written"
    from PIL import Image

    for file in Path(tmp_path).iterdir():
        Image.open(file).load()
        assert file.suffix == ".png"
