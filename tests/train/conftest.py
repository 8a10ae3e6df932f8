import pytest
from accelerate.state import AcceleratorState

from .world import encoded


@pytest.fixture
def pipe(make_pipe):
    """A base whose latents have about the standard deviation of real ones, 1."""
    return make_pipe(scaling=9.0)


@pytest.fixture
def world(pipe, tmp_path):
    return encoded(pipe, tmp_path)


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """Reset accelerate, which keeps one state per process: each run in a test is a run of its own."""
    yield
    AcceleratorState._reset_state(True)
