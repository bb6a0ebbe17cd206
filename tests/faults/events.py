"""What a stage does to its files, as a sequence of moments at which it can die.

An audit hook sees every file that Python opens for writing and every name that is made, renamed or removed; writes to and
flushes of open files are seen by standing before them. Only what concerns the project's folder counts.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NAMES: Final = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True, kw_only=True)
class Death:
    """A process ends itself with a signal at its ``event``-th event, counted from 1.

    ``torn``: in the middle of it, where it has one: a file is opened and still empty, or half of the bytes are written.
    Otherwise before it, which is after the one before.
    """

    event: int
    signal: int = signal.SIGKILL
    torn: bool = False


class Events:
    """Counts the events of this process under a folder, logs each as a line, and dies as it is told to.

    ``full_from``: the event from which on the disk is full, as far as this process can tell: what would take room is refused.
    """

    def __init__(self, folder: Path, log: Path, death: Death | None, full_from: int | None = None) -> None:
        self._folder, self._death, self._count = f"{folder.resolve()}{os.sep}", death, 0
        self._full_from = full_from
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._write, self._pwrite, self._fsync = os.write, os.pwrite, os.fsync

    def watch(self) -> None:
        """Begin; there is no end to it in this process."""
        os.write, os.pwrite, os.fsync = self._on_write, self._on_pwrite, self._on_fsync
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITING and self._concerns(path):
                self._happens(f"open {path}", lambda: os.close(os.open(path, flags, 0o644)), takes_room=True)
        elif event in NAMES and self._concerns(arguments[0]):
            self._happens(f"{event} {arguments[0]}", None, takes_room=event in ("os.mkdir", "os.link"))

    def _on_write(self, file: int, content: Any, /) -> int:
        if self._concerns(file):
            half = memoryview(content)[: len(content) // 2]
            self._happens(f"write {file}", lambda: self._write(file, half), takes_room=True)
        return self._write(file, content)

    def _on_pwrite(self, file: int, content: Any, offset: int, /) -> int:
        if self._concerns(file):
            half = memoryview(content)[: len(content) // 2]
            self._happens(f"pwrite {file}", lambda: self._pwrite(file, half, offset), takes_room=True)
        return self._pwrite(file, content, offset)

    def _on_fsync(self, file: int, /) -> None:
        if self._concerns(file):
            self._happens(f"fsync {file}", None, takes_room=True)
        self._fsync(file)

    def _concerns(self, path: object) -> bool:
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return str(Path(os.fsdecode(path)).absolute()).startswith(self._folder)

    def _happens(self, what: str, half: Callable[[], object] | None, takes_room: bool = False) -> None:
        self._count += 1
        self._write(self._log, f"{self._count} {what}\n".encode())
        if self._death is not None and self._count == self._death.event:
            death, self._death = self._death, None
            if death.torn and half is not None:
                half()
            os.kill(os.getpid(), death.signal)
        if takes_room and self._full_from is not None and self._count >= self._full_from:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
