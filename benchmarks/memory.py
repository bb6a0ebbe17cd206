"""The largest memory that a process and those it started have held."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def peak_memory() -> int:
    """Bytes: the peak of this process plus the peaks of its living descendants, an upper bound of their peak together.

    A process's own peak is read from the kernel where that is possible: what `getrusage` tells counts the parent's memory too,
    which a new process shares for a moment.
    """
    if not Path("/proc/self/status").exists():
        scale = 1 if sys.platform == "darwin" else 1024
        return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * scale
    return sum(_peak(process) for process in [os.getpid(), *descendants(os.getpid())])


def descendants(process: int) -> list[int]:
    """The living processes that were started by a process, or by one that it started."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := stat_fields(int(folder.name))):
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found: list[int] = []
    waiting = [process]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def stat_fields(process: int) -> list[str]:
    """The fields of a process's kernel statistics from the third (its state) on; empty if it has ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _peak(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
