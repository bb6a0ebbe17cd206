"""A full disk, reported with the bytes that were needed and those that are free."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from weakclip.errors import WeakClipError
from weakclip.file_names import opened_to_write, replace
from weakclip.progress import size

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
HINT: Final = "free some space and run the same command again: it goes on where it stood"


@contextmanager
def full_disk_told(path: Path | str, n_bytes: int | Callable[[], int]) -> Iterator[None]:
    """A context in which ``n_bytes`` are added to a file that stays as it is, even where the disk cannot hold them.

    ``n_bytes``: counted only then, where it is a function.

    Raises:
        WeakClipError: the disk is full; says how many bytes the file needs and how many are free.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        needed, rest = told_apart(n_bytes if isinstance(n_bytes, int) else n_bytes(), free_beside(path))
        raise WeakClipError(f"{path} needs {needed}, {_in_words(rest, error.errno)}", HINT) from error


@contextmanager
def room_for(path: Path | str, n_bytes: int | Callable[[], int]) -> Iterator[None]:
    """A context in which ``n_bytes`` are written to a file; what there is of it is removed if the disk cannot hold them.

    Raises:
        WeakClipError: the disk is full; says how many bytes the file needs and how many are free without it.
    """
    with full_disk_told(path, n_bytes):
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                Path(path).unlink(missing_ok=True)
            raise


def refused(path: Path, number: int) -> str:
    """What is free where a file is, or was to be, in words. ``number``: of the error that was met."""
    return _in_words(size(free_beside(path)), number)


def free_beside(path: Path | str) -> int:
    """The bytes that are free on the disk of a file that is, or was to be, there."""
    return shutil.disk_usage(next(folder for folder in Path(path).absolute().parents if folder.is_dir())).free


def told_apart(one: int, other: int) -> tuple[str, str]:
    """Two sizes as people read them, to the byte where they would read the same."""
    return (f"{one:,} B", f"{other:,} B") if size(one) == size(other) else (size(one), size(other))


def _in_words(rest: str, number: int) -> str:
    if number == errno.EDQUOT:  # what is left of it is not known
        return "this user's share of the disk is used up"
    return f"{rest} are free on the disk"


class Counted:
    """The parts of what is written, one after the other, and how many bytes they have together."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts, self.taken = iter(parts), 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self.taken += len(part)
            yield part

    def n_bytes(self) -> int:
        """Of all parts; those that were not taken are made for it."""
        return self.taken + sum(map(len, self._parts))


def write_whole(path: Path | str, content: bytes | Iterable[bytes], *, sync: bool = False) -> None:
    """Write a file under another name and then give it its own, so that it is there whole or not at all.

    ``content``: all of it, or its parts, which are made one by one while it is written. ``sync``: force it to the disk first,
    for files that must outlive a power cut.
    """
    part, parts = f"{path}.part", Counted([content] if isinstance(content, bytes) else content)
    try:
        with room_for(part, parts.n_bytes), opened_to_write(part) as file:
            file.writelines(parts)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:  # of whatever makes the parts
        Path(part).unlink(missing_ok=True)
        raise
    replace(part, path)


def written_aside(content: Iterable[bytes]) -> IO[bytes]:
    """A file without a name that has these parts, at its beginning; it is gone when it is closed."""
    parts = Counted(content)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        # Only what was taken is counted: to make the rest may be all the work there is.
        with full_disk_told(Path(tempfile.gettempdir(), "a list of images"), lambda: parts.taken):
            file.writelines(parts)
            file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
