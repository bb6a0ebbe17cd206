"""Runs modules as two ranks, as `torchrun --nproc-per-node=2 -m <module>` does."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LAUNCHER = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node=2"


def environment(**more: str) -> dict[str, str]:
    """The variables of a rank of one thread on the CPU, and more."""
    threads = {"OMP_NUM_THREADS": "1", "WEAKCLIP_WORKERS": "1"}
    return {**os.environ, "PYTHONPATH": str(ROOT), "WEAKCLIP_DEVICE": "cpu", **threads, **more}


def torchrun(module: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module as two ranks in a folder and return what they printed."""
    command = [*LAUNCHER.split(" "), "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
