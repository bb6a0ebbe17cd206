"""``cls_labels.npy``: image-level tags as the field's code exchanges them, a vector of zeros and ones for each image.

The dictionary's keys are image names (PSA), image names with their ending (MCTformer on COCO) or numbers (IRN, whose
2007000032 is VOC's 2007_000032).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
            digits = name.replace("_", "")
            keys: list[str | int] = [name, f"{name}.jpg"]
            keys += [int(digits)] if digits.isascii() and digits.isdecimal() else []
            for key in keys:
                if key in self._vectors:
                    return self._vectors[key]
        return None


def write_tag_vectors(path: Path, records: Iterable[Record], num_classes: int) -> None:
    """Write the tags of records as PSA does: image id to (K - 1,) float32, without background."""
    vectors = {record.image_id: np.zeros(num_classes - 1, np.float32) for record in records}
    for record in records:
        vectors[record.image_id][[tag - 1 for tag in record.tags]] = 1
    write_pickled_dictionary(path, vectors)
