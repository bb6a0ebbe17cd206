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
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedRandom, BufferedReader, BufferedWriter
from pathlib import Path
from typing import Final

NOTHING: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What it means that nothing is there, or a link to nothing or to itself."""


def is_no_file(path: Path | str) -> bool:
    """Whether something else than a file is there, such as a folder or a pipe."""
    mode = _mode(path)
    return mode is not None and not stat.S_ISREG(mode)


def is_file(path: Path | str) -> bool:
    """Whether a file is there, or what leads to one."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def _mode(path: Path | str) -> int | None:
    """What is there, None if nothing is."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in NOTHING:
            return None
        raise


def is_folder(path: Path | str) -> bool:
    """Whether a folder is there, or what leads to one."""
    return os.path.isdir(path)


def folder_and_name(path: Path | str) -> tuple[str, str]:
    """The folder that a file is in, and its name there."""
    folder, name = os.path.split(path)
    return folder or os.curdir, name


def names_in(folder: Path | str) -> Iterator[str]:
    """The names of what a folder holds, one by one, in any order."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


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


def opened_to_change(path: Path | str) -> BufferedRandom:
    """The file as it is, at its beginning, to write over parts of it."""
    return open(path, "r+b")


def remove(path: Path | str) -> None:
    """Remove a file; one that is gone is none to remove."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def replace(path: Path | str, final: Path | str) -> None:
    """Give a file the other name, in place of what has it."""
    os.replace(path, final)
