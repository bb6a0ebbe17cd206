"""A table that stays in its file: a row is read and parsed whenever it is asked for."""

from __future__ import annotations

import csv
import os
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Final, TypeVar, overload

import numpy as np

from weakclip.selection import Selection, same_items, sliced

T = TypeVar("T")
NO_ROW: Final = (KeyError, TypeError, AttributeError, ValueError, csv.Error)


class ParsedRows(Sequence[T]):
    """What ``parse`` makes of the cells of each row of a CSV table.

    All rows are parsed once at the beginning, to find what is wrong with them, and nothing is kept of that but where they
    start: an image of a data set takes four bytes, where objects would take a thousand. Slices share them. It may be used by
    several threads and after a fork; sent to another process it is a tuple.
    """

    def __init__(self, table: IO[bytes], columns: Sequence[str], parse: Callable[[Sequence[str]], T]) -> None:
        """``table``: UTF-8, a heading of the ``columns`` first; it may be closed afterwards, and removed or replaced, but not
        written to. Raises ValueError that names the line which is no row."""
        self._parse = parse
        ends, line = array("q", [0]), 0

        def lines() -> Iterator[str]:
            nonlocal line
            end = 0
            for text in table:
                line, end = line + 1, end + len(text)
                ends[-1] = end  # of the row that is being read, which may go on in the next line
                yield text.decode("utf-8")

        try:
            for cells in csv.reader(lines(), strict=True):
                if len(ends) == 1 and cells != [*columns]:
                    raise ValueError(f"expected the heading {','.join(columns)}")
                if len(cells) != len(columns):
                    raise ValueError(f"{len(cells)} cells where the heading has {len(columns)}")
                if len(ends) > 1:
                    parse(cells)
                ends.append(0)
            if len(ends) == 1:
                raise ValueError("it has no heading")
        except NO_ROW as error:
            raise ValueError(f"line {line}: {type(error).__name__}: {error}") from error
        self._ends = np.frombuffer(ends, np.int64)[:-1].astype(np.min_scalar_type(ends[-2]))
        self._file = os.dup(table.fileno())
        weakref.finalize(self, os.close, self._file)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Selection[T]: ...
    def __getitem__(self, place: int | slice) -> T | Selection[T]:
        if isinstance(place, slice):
            return sliced(self, place)
        row = range(len(self))[place]
        start, end = self._ends[row : row + 2].tolist()
        (cells,) = csv.reader([os.pread(self._file, end - start, start).decode("utf-8")], strict=True)
        return self._parse(cells)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __eq__(self, other: object) -> bool:
        return same_items(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[tuple[T, ...]], tuple[tuple[T, ...]]]:
        return tuple, (tuple(self),)
