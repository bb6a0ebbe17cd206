"""Writes a shard row by row, in any order and across interruptions, to the same bytes."""

import os
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakclip.disk_space import full_disk_told
from weakclip.errors import WeakClipError
from weakclip.features.journal import Journal, journalled, write_all
from weakclip.features.shards import (
    CHECKSUMS,
    COMPLETE,
    OpenShard,
    ShardLayout,
    checksum,
    create_shard,
    open_shard,
    sync_folder,
)
from weakclip.file_names import folder_and_name, names_in, remove, replace
from weakclip.ranks import ALONE, Ranks


class ShardWriter:
    """Fills one shard; a later writer of the same path and layout goes on where this one was stopped, by whatever.

    Until `finish` the shard is `<path>.part`, beside `<path>.journal` with the rows that are on the disk. A row is journalled
    only after its bytes were forced there, every flush_rows rows or flush_seconds. What an interrupted writer left is believed
    only as far as its checksums hold. One writer at a time, or one in each of the ranks: they are made, fed and finished
    together, each has a journal of its own, and the main one makes the file and completes it.
    """

    def __init__(
        self, path: Path | str, layout: ShardLayout, *, flush_rows: int = 64, flush_seconds: float = 5.0, ranks: Ranks = ALONE
    ) -> None:
        self._path, self._part, self._layout, self._ranks = str(path), f"{path}.part", layout, ranks
        self._folder, self._name = folder_and_name(path)
        self._flush_rows, self._flush_seconds = flush_rows, flush_seconds
        self._waiting: list[tuple[int, int]] = []
        self._flushed = time.monotonic()
        self._checksums: dict[int, int] = {}
        with ranks.main_first():
            part = self._resume()
        self._open = part is not None
        if part is not None:
            self._journal = Journal(f"{path}.journal" if ranks.main else f"{path}.journal-{ranks.rank}")
            self._offsets = part.offsets
            self._file = os.open(self._part, os.O_RDWR | os.O_CLOEXEC)

    @property
    def missing(self) -> tuple[int, ...]:
        """The rows that are still to be written."""
        return tuple(row for row in range(len(self._layout.counts)) if row not in self._checksums)

    def write(self, row: int, entries: Mapping[str, NDArray[Any]]) -> None:
        """Write a row: an array (its entries, *shape) for each column. Writing it again replaces it."""
        arrays = [np.ascontiguousarray(entries[column.name]) for column in self._layout.columns]
        for column, array in zip(self._layout.columns, arrays, strict=True):
            place = self._layout.place(column, row)
            expected = (place.stop - place.start, *column.shape)
            if array.shape != expected or array.dtype != np.dtype(column.dtype):
                got = f"{array.shape} {array.dtype}"
                raise ValueError(f"row {row}, {column.name}: expected {expected} {column.dtype}, got {got}")
            start = self._offsets[column.name] + place.start * (array.nbytes // len(array))
            with full_disk_told(self._part, array.nbytes):  # where the file system could not set its room aside
                write_all(self._file, array.reshape(-1).view(np.uint8).data, start)
        self._checksums[row] = checksum(arrays)
        self._waiting.append((row, self._checksums[row]))
        if len(self._waiting) >= self._flush_rows or time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Force what was written to the disk, then journal it."""
        os.fsync(self._file)
        self._journal.append(self._waiting)
        self._waiting.clear()
        self._flushed = time.monotonic()

    def finish(self) -> None:
        """Mark the shard complete and give it its name. All rows must have been written, by this writer or other ranks."""
        if not self._ranks.main:
            self.close()
        self._ranks.barrier()
        if self._open and self._ranks.count > 1:
            others = [entry for entry in self._journalled() if entry[0] not in self._checksums]
            self._checksums |= _matching_rows(open_shard(self._part, ""), others)
        if self._ranks.main and self.missing:
            raise ValueError(f"{self._path}: expected all rows to be written, {len(self.missing)} are not")
        if not self._open:
            return
        checksums = np.array([self._checksums[row] for row in range(len(self._layout.counts))], dtype="<u4")
        write_all(self._file, checksums.tobytes(), self._offsets[CHECKSUMS])
        os.fsync(self._file)
        write_all(self._file, b"\1", self._offsets[COMPLETE])
        os.fsync(self._file)
        self._release()
        replace(self._part, self._path)
        sync_folder(self._folder)
        forget_journals(self._folder, (self._name,))

    def close(self) -> None:
        """Journal what was written and leave an unfinished shard to be gone on with."""
        if self._open:
            self.flush()
            self._release()

    def _resume(self) -> OpenShard | None:
        """Find the rows that are there, and make the file where there is none; None if the shard is complete."""
        finished = _open(self._path, self._layout)
        if finished is not None and finished.complete:
            self._checksums = _matching_rows(finished, enumerate(finished.checksums.tolist()))
        if not self.missing:
            forget_journals(self._folder, (self._name,))
            return None
        remove(self._path)
        part = _open(self._part, self._layout)
        if part is None:
            forget_journals(self._folder, (self._name,))
            create_shard(self._part, self._layout)
            self._checksums = {}
            return open_shard(self._part, "")
        self._checksums = _matching_rows(part, self._journalled())
        return part

    def _journalled(self) -> list[tuple[int, int]]:
        """The rows of all ranks, of this run and those before it, with their checksums."""
        journals = sorted(name for name in names_in(self._folder) if name.startswith(f"{self._name}.journal"))
        return [entry for name in journals for entry in journalled(f"{self._folder}/{name}").items()]

    def _release(self) -> None:
        self._journal.close()
        os.close(self._file)
        self._open = False


def forget_journals(folder: Path | str, shards: Collection[str]) -> None:
    """Remove what a killed writer may have left beside complete shards, given by their names in the folder."""
    journals = [name for name in names_in(folder) if ".journal" in name and name.rpartition(".")[0] in shards]
    for name in journals:
        remove(f"{folder}/{name}")


def _open(path: str, layout: ShardLayout) -> OpenShard | None:
    """Return what is in a shard, complete or not, if its file is sound and made for this layout."""
    try:
        shard = open_shard(path, "")
    except WeakClipError:
        return None
    return shard if shard.layout.digest == layout.digest else None


def _matching_rows(shard: OpenShard, expected: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the rows of a shard whose bytes have an expected checksum; for a row there may be several."""
    matching: dict[int, int] = {}
    for row, value in expected:
        if row < len(shard.layout.counts) and checksum(shard.row(row).values()) == value:
            matching[row] = value
    return matching
