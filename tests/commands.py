"""Run ``singdiffusion`` as a real process, as a user starts it."""

import os
import signal
import subprocess
import sys

ENV = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def start(*args, **env):
    command = [sys.executable, "-m", "singdiffusion", *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV | env, preexec_fn=_foreground
    )


def _foreground():
    """Let Ctrl-C reach the process: a shell that starts the tests in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def cli(*args, status=0, **env):
    process = start(*args, **env)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err[-800:]
    assert "Traceback" not in err
    return out, err


def refused(*args, match, status=1):
    _, err = cli(*args, status=status)
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert match in lines[0]
