"""A few wrong inputs for everything that takes input; ``make fuzz MINUTES=20`` tries many more."""

import pytest

from .targets import targets
from .trial import Counts, explore

QUICK = 6  # inputs per target; `make fuzz` tries thousands


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return targets(tmp_path_factory.mktemp("good"))


def test_no_input_is_a_traceback(everything, tmp_path):
    """Each is taken or refused in one line, in time, within 4 GiB, with nothing half-written."""
    for target in everything:
        counts = Counts()
        explore(target, tmp_path, QUICK, 0, counts)
        assert not counts.faults, "\n".join(counts.faults)
        assert sum(counts.outcomes.values()) >= 1


def test_faults_are_seen(tmp_path):
    """The fuzzer itself finds an error, a message of several lines, a hang, and what is half-written."""
    import time

    from hypothesis import strategies as st

    from singdiffusion import SingDiffusionError

    from . import trial

    class Several(SingDiffusionError):
        def __init__(self):
            self.args = ("a\nb",)

    def wrong(case, folder):
        if case == 0:
            raise KeyError("a")
        if case == 1:
            raise Several
        if case == 2:
            (folder / ".singdiffusion-a").mkdir()
        if case == 3:
            time.sleep(3)

    counts, before = Counts(), trial.LONGEST
    trial.LONGEST = 1
    try:
        for case in range(5):
            (tmp_path / str(case)).mkdir()
            trial.attempt(trial.Target("a", st.nothing(), wrong), case, tmp_path / str(case), counts)
    finally:
        trial.LONGEST = before
    assert counts.outcomes == {"KeyError": 1, "several lines": 1, "half-written": 1, "hang": 1, "taken": 1}
    assert len(counts.faults) == 4
