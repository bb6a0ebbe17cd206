"""``cls_labels.npy``: image-level tags as the field's code exchanges them, a vector of zeros and ones for each image.

The dictionary's keys are image names (PSA), image names with their ending (MCTformer on COCO) or numbers (IRN, whose
2007000032 is VOC's 2007_000032).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.index import Record
from weakclip.datasets.pickled import read_pickled_dictionary, write_pickled_dictionary
from weakclip.errors import WeakClipError


class TagVectors:
    """The vectors of a file, found by any of the names that the field's code gives an image."""

    def __init__(self, path: Path, classes: Mapping[int, Sequence[int | None]]) -> None:
        """``classes``: for each length that a vector may have, the class of each of its places; None: a place never set.

        Raises:
            WeakClipError: the file is missing or holds no dictionary of arrays.
        """
        self._path, self._classes = path, classes
        self._vectors = read_pickled_dictionary(path)

    def tags(self, image_id: str, *aliases: str) -> tuple[int, ...]:
        """The classes of an image, from 1 and ascending; none where no name of it has a vector.

        Raises:
            WeakClipError: names the file and the image whose vector has another length, other values or an unused place.
        """
        vector = self._find((image_id, *aliases))
        if vector is None:
            return ()
        values = np.asarray(vector)
        places = self._classes.get(len(values)) if values.ndim == 1 else None
        lengths = " or ".join(str(length) for length in self._classes)
        if places is None or values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
            raise WeakClipError(f"{self._path.name} does not hold {lengths} zeros and ones for {image_id}", "save it anew")
        found = [places[int(position)] for position in np.flatnonzero(values)]
        classes = tuple(sorted(index for index in found if index is not None))
        if len(classes) < len(found):
            raise WeakClipError(f"{self._path.name} sets a place for {image_id} that belongs to no class", "save it anew")
        return classes

    def _find(self, names: Iterable[str]) -> Any:
        for name in names:
            for key in (name, f"{name}.jpg", *numbers(name)):
                if key in self._vectors:
                    return self._vectors[key]
        return None


def write_tag_vectors(path: Path, records: Iterable[Record], num_classes: int) -> None:
    """Write the tags of records as (K - 1,) float32 without background, by image id and, for IRN, by number as well."""
    vectors: dict[str | int, NDArray[np.float32]] = {}
    for record in records:
        vector = np.zeros(num_classes - 1, np.float32)
        vector[[tag - 1 for tag in record.tags]] = 1
        vectors |= dict.fromkeys((record.image_id, *numbers(record.image_id)), vector)
    write_pickled_dictionary(path, vectors)


def numbers(name: str) -> tuple[int, ...]:
    """The number that IRN calls an image by, if its name is one."""
    digits = name.replace("_", "")
    return (int(digits),) if digits.isascii() and digits.isdecimal() else ()
