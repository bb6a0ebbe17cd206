"""Some of a sequence's items without a copy of them: a data set of a million images is read and split in a few megabytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Selection(Sequence[T]):
    """Items of a sequence by their places in it, four bytes for each; ``places``: (n,) from 0.

    A slice of it is another one. Sent to another process it is a tuple of its items, without the rest of the sequence.
    """

    def __init__(self, items: Sequence[T], places: NDArray[np.integer]) -> None:
        self._items, self.places = items, places.astype(np.min_scalar_type(len(items)), copy=False)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Selection[T]: ...
    def __getitem__(self, place: int | slice) -> T | Selection[T]:
        if isinstance(place, slice):
            return Selection(self._items, self.places[place])
        return self._items[int(self.places[place])]

    def __len__(self) -> int:
        return len(self.places)

    def __eq__(self, other: object) -> bool:
        return same_items(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[tuple[T, ...]], tuple[tuple[T, ...]]]:
        return tuple, (tuple(self),)


def select(items: Sequence[T], wanted: Callable[[T], object]) -> Selection[T]:
    """The items that are wanted, in their order; each is looked at once, now."""
    places = (place for place, item in enumerate(items) if wanted(item))
    return Selection(items, np.fromiter(places, np.min_scalar_type(len(items))))


def sliced(items: Sequence[T], part: slice) -> Selection[T]:
    """The items of a slice."""
    return Selection(items, np.arange(*part.indices(len(items)), dtype=np.int64))


def same_items(one: Sequence[Any], other: object) -> bool:
    """Whether the other is a sequence of equal items, whatever its type."""
    return isinstance(other, Sequence) and len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))
