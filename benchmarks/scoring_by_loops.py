"""Scoring as the released script does it: a loop over the classes of each image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.uint8]


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def count_by_loops(pairs: Iterable[tuple[Mask, Mask]], num_classes: int) -> NDArray[np.int64]:
    """Hits, predicted and true pixels of each class, (3, K): a sum over the whole image for each class and each of them."""
    counts = np.zeros((3, num_classes), np.int64)
    for prediction, truth in pairs:
        known = truth < 255
        agreeing = (prediction == truth) * known
        for index in range(num_classes):
            counts[0, index] += np.sum((truth == index) * agreeing)
            counts[1, index] += np.sum((prediction == index) * known)
            counts[2, index] += np.sum((truth == index) * known)
    return counts


def count_files(prediction: Path, truth: Path, num_classes: int) -> NDArray[np.int64]:
    return count_by_loops([(read(prediction), read(truth))], num_classes)
