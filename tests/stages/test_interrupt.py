"""Ctrl-C before a command runs, while it reads its libraries."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "ValueError('x')"])
def test_an_interrupt_is_a_line_and_an_error_keeps_its_traceback(raised: str) -> None:
    command = [sys.executable, "-c", f"import stages\nraise {raised}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = result.stderr.strip().splitlines()
    if raised == "KeyboardInterrupt":
        assert said == ["interrupted; the same command goes on where it stood"] and result.returncode == -signal.SIGINT
    else:
        assert said[0].startswith("Traceback") and said[-1] == "ValueError: x" and result.returncode == 1
