"""Many images' ids, and a number for each of them, in arrays: lists and dictionaries take two hundred bytes an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from weakclip.selection import Selection, same_items, sliced

Number = TypeVar("Number", int, float)
TOGETHER: Final = 4096  # ids that are objects at a time


class ImageIds(Sequence[str]):
    """Ids in their order, each of them as many bytes as the longest one, and quickly found; each may be there once.

    Raises:
        ValueError: one is there twice.
    """

    def __init__(self, image_ids: Iterable[str]) -> None:
        rest, packed, width = iter(image_ids), bytearray(), 1
        while part := [image_id.encode("utf-8") for image_id in islice(rest, TOGETHER)]:
            if (longest := max(map(len, part))) > width:
                packed = bytearray(np.frombuffer(packed, f"S{width}").astype(f"S{longest}").tobytes())
                width = longest
            packed += np.array(part, f"S{width}").tobytes()
        self.utf8 = np.frombuffer(packed, f"S{width}")
        """(n,) bytes, which sort as the ids do."""
        self._sorted, self._order = self.utf8, None
        if (self.utf8[1:] <= self.utf8[:-1]).any():
            self._order = np.argsort(self.utf8, kind="stable")
            self._sorted = self.utf8[self._order]
            if (self._sorted[1:] == self._sorted[:-1]).any():
                raise ValueError("expected images, each once")

    @property
    def ascending(self) -> Iterable[int]:
        """The places of the ids in their alphabetical order."""
        return range(len(self)) if self._order is None else map(int, self._order)

    def place(self, image_id: str) -> int | None:
        """Where an id is, None if it is not there."""
        wanted = np.bytes_(image_id.encode("utf-8"))
        found = int(np.searchsorted(self._sorted, wanted))
        if found == len(self) or self._sorted[found] != wanted:
            return None
        return found if self._order is None else int(self._order[found])

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Selection[str]: ...
    def __getitem__(self, place: int | slice) -> str | Selection[str]:
        if isinstance(place, slice):
            return sliced(self, place)
        return str(self.utf8[place].decode("utf-8"))

    def __len__(self) -> int:
        return len(self.utf8)

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and self.place(image_id) is not None

    def __eq__(self, other: object) -> bool:
        return same_items(self, other)

    __hash__ = None  # type: ignore[assignment]


class ImageFigures(Mapping[str, Number]):
    """A number for each image, by its id: ``numbers[place]`` for the id at that place."""

    def __init__(self, image_ids: ImageIds, numbers: NDArray[Any]) -> None:
        if numbers.shape != (len(image_ids),):
            raise ValueError(f"expected a number for each of {len(image_ids)} images, got {numbers.shape}")
        self.image_ids, self.numbers = image_ids, numbers

    def __getitem__(self, image_id: str) -> Number:
        place = self.image_ids.place(image_id)
        if place is None:
            raise KeyError(image_id)
        number: Number = self.numbers[place].item()
        return number

    def __iter__(self) -> Iterator[str]:
        return iter(self.image_ids)

    def __len__(self) -> int:
        return len(self.image_ids)
