"""The largest memory that a process and those it started have held."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

STARTED: Final = 19  # of `stat_fields`: when the process was started, in ticks since the machine was
GLANCE: Final = 0.05  # seconds between two looks at what processes hold


def peak_memory() -> int:
    """Bytes: the peak of this process plus the peaks of its living descendants, an upper bound of their peak together.

    A process's own peak is read from the kernel where that is possible: what `getrusage` tells counts the parent's memory too,
    which a new process shares for a moment.
    """
    if not Path("/proc/self/status").exists():
        scale = 1 if sys.platform == "darwin" else 1024
        return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * scale
    return sum(_status(process, "VmHWM:") for process in [os.getpid(), *descendants(os.getpid())])


class HeldTogether:
    """Watches, as a context, what a process and its living descendants hold at one time; ``peak``: the most seen, bytes.

    Unlike `peak_memory` it does not add what one process held before others were started to what those hold later. What is
    held for less than 50 ms may be missed. Linux only.
    """

    def __init__(self, process: int) -> None:
        self.peak = self.start = held(process)
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, args=(process,), daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._ended.set()
        self._watch.join()

    def _look(self, process: int) -> None:
        while not self._ended.wait(GLANCE):
            self.peak = max(self.peak, held(process))


def held(process: int) -> int:
    """Bytes of memory that a process and its living descendants have now; pages that two of them share count twice.

    A new descendant whose command is its parent's is a copy that is about to become another program: it has its parent's pages
    and none of its own, and counted they would make the peak twice as high whenever it is looked at in that moment.
    """
    return sum(_status(one, "VmRSS:") for one in [process, *(one for one in descendants(process) if not _is_copy(one))])


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


def _is_copy(process: int) -> bool:
    """Whether it has its parent's command, and that for less than a second."""
    fields = stat_fields(process)
    if len(fields) <= STARTED or _command(process) != _command(int(fields[1])):
        return False
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[STARTED]) / os.sysconf("SC_CLK_TCK") < 1


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _status(process: int, name: str) -> int:
    """Bytes that a line of the kernel's status of a process tells; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
