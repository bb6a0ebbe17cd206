"""Rows of numbers and texts, in an array for each column: as dictionaries in a list they take ten times the memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from weakclip.selection import Selection, same_items, sliced

Row = dict[str, Any]


class Table(Sequence[Row]):
    """Rows by number, each a text or a whole number by the name of its column, made when it is asked for.

    ``columns``: (rows,) bytes for texts, or whole numbers.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, parts: Iterable[Sequence[Mapping[str, Any]]], kinds: Mapping[str, type]) -> Table:
        """A table of the rows that come in parts; ``kinds``: str or int, by column."""
        columns: dict[str, list[NDArray[Any]]] = {
            name: [np.zeros(0, np.bytes_ if kind is str else np.int64)] for name, kind in kinds.items()
        }
        for rows in parts:
            for name, kind in kinds.items():
                cells = [row[name] for row in rows]
                columns[name].append(np.array([cell.encode() for cell in cells]) if kind is str else np.array(cells, np.int64))
        return cls({name: np.concatenate(arrays) for name, arrays in columns.items()})

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Selection[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Selection[Row]:
        if isinstance(place, slice):
            return sliced(self, place)
        cells = ((name, column[place].item()) for name, column in self.columns.items())
        return {name: cell.decode() if isinstance(cell, bytes) else cell for name, cell in cells}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __eq__(self, other: object) -> bool:
        return same_items(self, other)

    __hash__ = None  # type: ignore[assignment]
