"""Memory that a process has freed: in processes of their own, since it cannot be undone."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import ctypes, resource, sys
from weakclip import heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    blocks = [ctypes.create_string_buffer(12 * 2**20) for _ in range(4)]  # zeroed, so every page is touched
    del blocks

if sys.argv[1] == "kept":
    heap.keep()
work()
before = faults()
for _ in range(3):
    work()
print(faults() - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, how], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is GNU's")
def test_kept_memory_is_used_again_without_asking_the_system() -> None:
    assert page_faults("kept") < 0.1 * page_faults("as it is")
