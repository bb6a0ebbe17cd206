"""A full disk, reported with the bytes that were needed and those that are free."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from weakclip.errors import WeakClipError
from weakclip.progress import size

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
HINT: Final = "free some space and run the same command again: it goes on where it stood"


@contextmanager
def full_disk_told(path: Path, n_bytes: int) -> Iterator[None]:
    """A context in which ``n_bytes`` are added to a file that stays as it is, even where the disk cannot hold them.

    Raises:
        WeakClipError: the disk is full; says how many bytes the file needs and how many are free.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise WeakClipError(f"{path} needs {size(n_bytes)}, {free(path, error.errno)}", HINT) from error


@contextmanager
def room_for(path: Path, n_bytes: int) -> Iterator[None]:
    """A context in which ``n_bytes`` are written to a file; what there is of it is removed if the disk cannot hold them.

    Raises:
        WeakClipError: the disk is full; says how many bytes the file needs and how many are free without it.
    """
    with full_disk_told(path, n_bytes):
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                path.unlink(missing_ok=True)
            raise


def free(path: Path, number: int | None = errno.ENOSPC) -> str:
    """How much is free where a file is, or was to be, in words. ``number``: the error that was met; a quota is less than the
    disk, and how much of it is left is not known."""
    if number == errno.EDQUOT:
        return "which is more than is left of this user's share of the disk"
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    return f"{size(shutil.disk_usage(there).free)} are free on the disk"


def write_whole(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write a file under another name and then give it its own, so that it is there whole or not at all.

    ``sync``: force it to the disk first, for files that must outlive a power cut.
    """
    part = path.with_name(f"{path.name}.part")
    with room_for(part, len(content)), part.open("wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    part.replace(path)
