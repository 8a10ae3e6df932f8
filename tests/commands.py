"""Run ``singdiffusion`` as a real process, as a user starts it."""

import json
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


_TOGETHER = """
import contextlib, io, json, sys
from singdiffusion.cli import main
found = []
for args in json.loads(sys.argv[1]):
    sys.argv = ["singdiffusion", *args]
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as exit:
            found.append([exit.code, err.getvalue()])
print(json.dumps(found))
"""


def together(*commands):
    """Run commands one after the other in one process, which imports the libraries once; return (status, stderr) of each."""
    given = json.dumps([[str(each) for each in command] for command in commands])
    command = [sys.executable, "-c", _TOGETHER, given]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=600)
    assert done.returncode == 0, done.stderr[-800:]
    return json.loads(done.stdout.splitlines()[-1])


class Refusals:
    """Commands that must each fail with one line; they run in one process when the block ends."""

    def __enter__(self):
        self._cases = []
        return self

    def refused(self, *args, match, status=1):
        """Note a command, what its line must contain, and its exit status."""
        self._cases.append((args, match, status))

    def __exit__(self, kind, *_):
        if kind is not None:
            return
        found = together(*(args for args, _, _ in self._cases))
        for (args, match, expected), (status, err) in zip(self._cases, found, strict=True):
            lines = [line for line in err.splitlines() if line.strip()]
            assert status == expected, (args, err)
            assert len(lines) == 1, err
            assert lines[0].startswith("error: ")
            assert match in lines[0]
