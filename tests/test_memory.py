"""Memory is checked before it is taken."""

import subprocess
import sys

import pytest

from singdiffusion import SingDiffusionError, memory


def test_more_than_there_is_is_refused():
    free = memory.free_memory()
    assert 0 < free < 2**50
    memory.require_memory(free / 4, "a small thing")
    with pytest.raises(
        SingDiffusionError, match=r"^a large thing needs about .* GiB of memory, and .* GiB are free$"
    ) as caught:
        memory.require_memory(4 * free, "a large thing", setting="height")
    assert caught.value.setting == "height"


def test_a_limit_of_the_shell_counts():
    code = """
import resource, psutil
from singdiffusion.memory import free_memory
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**29,) * 2)
print(free_memory())
"""
    found = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0 < found <= 2**29
