"""Files by names that may be texts, for what is done with a file of each image.

A `Path` enters the parts that it is made of into the interpreter's table of names. They leave it again, but the table is made
anew whenever they have filled it up: many thousand images would let it, and the holes that it leaves behind, take 20 MB.
"""

# They would have a `Path` made of each name.
# ruff: noqa: PTH102, PTH105, PTH106, PTH108, PTH112, PTH116, PTH123

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Final

NOTHING: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What it means that nothing is there, or a link to nothing or to itself."""


def is_no_file(path: Path | str) -> bool:
    """Whether something else than a file is there, such as a folder or a pipe."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in NOTHING:
            return False
        raise


def is_folder(path: Path | str) -> bool:
    """Whether a folder is there, or what leads to one."""
    return os.path.isdir(path)


def make_folder(path: Path | str) -> None:
    """Make a folder in one that is there."""
    os.mkdir(path)


def remove_folder(path: Path | str) -> None:
    """Remove an empty folder."""
    os.rmdir(path)


def file_size(path: Path | str) -> int:
    """Its length in bytes."""
    return os.stat(path).st_size


def opened_to_read(path: Path | str) -> BufferedReader:
    """The file, at its beginning."""
    return open(path, "rb")


def read_bytes(path: Path | str) -> bytes:
    """All that is in it."""
    with opened_to_read(path) as file:
        return file.read()


def opened_to_write(path: Path | str) -> BufferedWriter:
    """A new file, or an empty one in place of what is there."""
    return open(path, "wb")


def remove(path: Path | str) -> None:
    """Remove a file; one that is gone is none to remove."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def replace(path: Path | str, final: Path | str) -> None:
    """Give a file the other name, in place of what has it."""
    os.replace(path, final)
