"""One HDF5 file of rows, each a run of entries in every column: how it is made, and how it is read and checked.

The layout of a shard (sizes, attributes, what each row is) is fixed before its first row is written. The file is then made
whole, every dataset contiguous and at its final place, and closed: HDF5 has nothing left to do, a kill cannot damage it, and
rows are plain writes at known offsets (`weakclip.features.writer`). So the bytes depend on the rows alone, not on who wrote
them when.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import ne
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from weakclip.disk_space import room_for
from weakclip.errors import WeakClipError, of_the_machine
from weakclip.file_names import file_size, folder_and_name, is_file, opened_to_change, opened_to_read, replace

T = TypeVar("T")
FORMAT: Final = 1
VERSIONS: Final = ("v110", "v110")  # of HDF5's objects: the same bytes from every library, readable since HDF5 1.10
ROWS: Final = "rows"  # (rows, 2) first entry and count
ABOUT: Final = "about"
CHECKSUMS: Final = "crc32"
COMPLETE: Final = "complete"
OWN_ATTRIBUTES: Final = ("format", "columns", "layout")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A dataset of a shard: entries of one shape and type, such as the tokens of a block.

    once_a_row: a row has one entry in it, whatever its count, such as what the tokens are multiples of.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    once_a_row: bool = False

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def place(self, row: int, first: int, count: int) -> slice:
        """Where a row is among the entries; ``first`` and ``count``: of its entries in the columns with more than one a row."""
        return slice(row, row + 1) if self.once_a_row else slice(first, first + count)

    @property
    def described(self) -> tuple[object, ...]:
        """What the shard says of the column: name, shape, type, and once_a_row where it is so."""
        return (self.name, self.shape, self.dtype, *([True] if self.once_a_row else []))


@dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """All of a shard but the rows' contents.

    counts is the number of entries of each row, in every column but those with one a row; about says in ASCII JSON what each
    row is; attributes are values that JSON can hold.
    """

    columns: tuple[Column, ...]
    counts: Sequence[int]
    about: Sequence[str]
    attributes: Mapping[str, object]

    def __post_init__(self) -> None:
        if not self.columns or not self.counts or len(self.counts) != len(self.about) or min(self.counts) < 1:
            raise ValueError("expected columns, and rows with at least one entry and a description each")
        if taken := {*OWN_ATTRIBUTES} & {*self.attributes}:
            raise ValueError(f"expected attributes other than the shard's own, got {sorted(taken)}")

    @cached_property
    def firsts(self) -> Sequence[int]:
        """The first entry of each row."""
        return array("q", accumulate(self.counts, initial=0))[:-1]

    def entries(self, column: Column) -> int:
        """The number of entries of a column, all rows together."""
        return len(self.counts) if column.once_a_row else sum(self.counts)

    def place(self, column: Column, row: int) -> slice:
        """Where a row is among the entries of a column."""
        return column.place(row, self.firsts[row], self.counts[row])

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the layout, kept in the file to notice when any of it is damaged."""
        columns = [column.described for column in self.columns]
        content = json.loads(json.dumps([FORMAT, columns, [*self.counts], [*self.about], dict(self.attributes)]))
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


class InFile(Sequence[T]):
    """A value of each row that stays in the file of a shard until it is asked for; ``read`` makes it of what is there."""

    def __init__(self, values: NDArray[Any], read: Callable[[Any], T]) -> None:
        """``values``: (n,)."""
        self._values, self._read = values, read

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> InFile[T]: ...
    def __getitem__(self, place: int | slice) -> T | InFile[T]:
        return InFile(self._values[place], self._read) if isinstance(place, slice) else self._read(self._values[place])

    def __iter__(self) -> Iterator[T]:
        return map(self._read, self._values.tolist())

    def __len__(self) -> int:
        return len(self._values)


class ShardReader:
    """Reads a complete shard through a memory map, checking each row's checksum when the row is first touched.

    No HDF5 handle is kept, so a reader may be used in forked processes and by several threads; of a row nothing is kept but
    whether it was checked. remedy is what to do about a damaged shard, for the hint of the error.
    """

    def __init__(self, path: Path | str, remedy: str) -> None:
        self.path, self._remedy = path, remedy
        shard = open_shard(path, remedy)
        if not shard.complete:
            raise WeakClipError(f"{path} is not complete", remedy)
        self.proof = checksum([shard.checksums])
        """The checksum of the rows' checksums: another one, another shard."""
        self._shard = shard
        self._verified = np.zeros(len(shard.checksums), dtype=np.bool_)

    @property
    def layout(self) -> ShardLayout:
        """All of it but the rows' contents."""
        return self._shard.layout

    def read(self, row: int) -> dict[str, NDArray[Any]]:
        """Return a row's array (its entries, *shape) for each column: read-only windows on the file, nothing is copied."""
        entries = self._shard.row(row)
        if not self._verified[row]:
            if checksum(entries.values()) != self._shard.checksums[row]:
                problem = f"{self.path} is damaged: row {row} {self.layout.about[row]} does not match its checksum"
                raise WeakClipError(problem, self._remedy)
            self._verified[row] = True
        return entries

    def let_go(self) -> None:
        """Give the memory back that the pages of the file take in this process; what is read again is mapped again."""
        self._shard.mapped.madvise(mmap.MADV_DONTNEED)

    def let_row_go(self, row: int) -> None:
        """`let_go` for the pages of one row."""
        first, count = self._shard.rows[row].tolist()
        for column in self.layout.columns:
            place = column.place(row, first, count)
            start, end = (self._shard.offsets[column.name] + entry * column.entry_bytes for entry in (place.start, place.stop))
            start -= start % mmap.PAGESIZE
            self._shard.mapped.madvise(mmap.MADV_DONTNEED, start, end - start)


@dataclass(frozen=True, kw_only=True)
class OpenShard:
    """What a shard's file holds, all that there is for each row in read-only windows on the map of it.

    ``rows``: (rows, 2) first entry and count. ``checksums``: (rows,). ``columns``: (entries, *shape) by name. ``offsets``: the
    places of the datasets in the file, in bytes.
    """

    layout: ShardLayout
    complete: bool
    mapped: mmap.mmap
    rows: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    columns: dict[str, NDArray[Any]]
    offsets: dict[str, int]

    def row(self, row: int) -> dict[str, NDArray[Any]]:
        """Return a row's entries in each column."""
        first, count = self.rows[row].tolist()
        return {column.name: self.columns[column.name][column.place(row, first, count)] for column in self.layout.columns}


def create_shard(path: Path | str, layout: ShardLayout) -> None:
    """Make a shard without its rows, all its room on the disk taken. It appears under its name when it is sound."""
    draft = f"{path}.new"
    with room_for(draft, sum(layout.entries(column) * column.entry_bytes for column in layout.columns)):
        _write_draft(draft, layout)
    replace(draft, path)
    sync_folder(folder_and_name(path)[0])


def _write_draft(draft: str, layout: ShardLayout) -> None:
    rows = np.array(list(zip(layout.firsts, layout.counts, strict=True)), dtype="<i8")
    about = np.array([text.encode("ascii") for text in layout.about])
    columns = [column.described for column in layout.columns]
    own = {"format": FORMAT, "columns": columns, "layout": layout.digest}
    with h5py.File(draft, "w", libver=VERSIONS) as file:
        for column in layout.columns:
            _create_dataset(file, column.name, (layout.entries(column), *column.shape), np.dtype(column.dtype))
        _create_dataset(file, ROWS, rows.shape, rows.dtype)[...] = rows
        _create_dataset(file, ABOUT, about.shape, about.dtype)[...] = about
        _create_dataset(file, CHECKSUMS, (len(rows),), np.dtype("<u4"))
        # A dataset, not an attribute: one byte sets it, without HDF5 opening the file for writing (a kill then would lock it).
        _create_dataset(file, COMPLETE, (1,), np.dtype("u1"))
        for name, value in {**own, **layout.attributes}.items():
            file.attrs[name] = np.bytes_(json.dumps(value, sort_keys=True).encode("ascii"))
    n_bytes = file_size(draft)
    with room_for(draft, n_bytes), opened_to_change(draft) as raw:
        _reserve(raw.fileno(), n_bytes)
        os.fsync(raw.fileno())


def open_shard(path: Path | str, remedy: str) -> OpenShard:
    """Read all of a shard but its rows, and map these. Raises WeakClipError naming the file if anything is out of order."""
    if not is_file(path):
        raise WeakClipError(f"{path} is missing", remedy)
    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes = {name: json.loads(bytes(file.attrs[name])) for name in file.attrs}
            made_as, columns, digest = (attributes.pop(name) for name in OWN_ATTRIBUTES)
            if made_as != FORMAT:
                raise ValueError(f"it has format {made_as}, this version reads {FORMAT}")
            complete = bool(file[COMPLETE][0])
            shapes = {name: (file[name].shape, file[name].dtype) for name in (ROWS, ABOUT, CHECKSUMS)}
            offsets = {name: int(file[name].id.get_offset()) for name in file}
        with opened_to_read(path) as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        windows = {name: _window(mapped, offsets[name], *described) for name, described in shapes.items()}
        rows = windows[ROWS]
        layout = ShardLayout(
            columns=tuple(_column(*described) for described in columns),
            counts=InFile(rows[:, 1], int),
            about=InFile(windows[ABOUT], _text),
            attributes=attributes,
        )
        if layout.digest != digest or any(map(ne, accumulate(layout.counts, initial=0), rows[:, 0].tolist())):
            raise ValueError("its description does not match its checksum")
        arrays = {
            column.name: _window(mapped, offsets[column.name], (layout.entries(column), *column.shape), np.dtype(column.dtype))
            for column in layout.columns
        }
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if of_the_machine(error):
            raise
        raise WeakClipError(f"{path} is damaged: {str(error).splitlines()[0]}", remedy) from error
    return OpenShard(
        layout=layout,
        complete=complete,
        mapped=mapped,
        rows=rows,
        checksums=windows[CHECKSUMS],
        columns=arrays,
        offsets=offsets,
    )


def _window(mapped: mmap.mmap, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The dataset of this shape and type from a byte on, read-only. Raises ValueError where the file ends before it does."""
    return np.frombuffer(mapped, dtype, math.prod(shape), start).reshape(shape)


def _text(ascii_text: bytes) -> str:
    return ascii_text.decode("ascii")


def _column(name: str, shape: Sequence[int], dtype: str, once_a_row: bool = False) -> Column:
    return Column(name=name, shape=tuple(shape), dtype=dtype, once_a_row=once_a_row)


def checksum(arrays: Iterable[NDArray[Any]]) -> int:
    """Return the CRC-32 of the bytes of arrays, one after the other."""
    value = 0
    for one in arrays:
        value = isal_zlib.crc32(np.ascontiguousarray(one).reshape(-1).view(np.uint8).data, value)
    return value


def sync_folder(folder: Path | str) -> None:
    """Force a folder's names to the disk, after a file in it was renamed."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _create_dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    kind = h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode("ascii"), kind, h5py.h5s.create_simple(shape), properties))


def _reserve(file: int, length: int) -> None:
    """Take the room of a file on the disk: a full disk shows now, not hours later."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, length)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems that cannot
            raise
