"""Bilinear resizing of photos as OpenCV computes it: without antialiasing, and in integers.

The released code resizes with OpenCV, which is no dependency of this project. Weights have eleven bits, columns are mixed
first, and rows lose four bits before they are mixed (OpenCV 4, INTER_LINEAR on eight bits).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ONE = 1 << 11


def resize_without_antialias(photo: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The photo, (H, W, 3) uint8, at (height, width, 3)."""
    left, left_weight, right, right_weight = neighbours(photo.shape[1], width)
    columns = photo[:, left] * left_weight[:, None] + photo[:, right] * right_weight[:, None]
    upper, upper_weight, lower, lower_weight = neighbours(photo.shape[0], height)
    shrunk = columns >> 4
    rows = (shrunk[upper] * upper_weight[:, None, None] >> 16) + (shrunk[lower] * lower_weight[:, None, None] >> 16)
    return ((rows + 2) >> 2).astype(np.uint8)


def neighbours(length: int, target: int) -> tuple[NDArray[np.int64], ...]:
    """For each of ``target`` places on a side of ``length``: first neighbour, its weight, second neighbour, its weight.

    Weights are whole numbers that add up to `ONE`. Beyond the borders both neighbours are the border.
    """
    places = ((np.arange(target) + 0.5) * (length / target) - 0.5).astype(np.float32)
    first = np.floor(places).astype(np.int64)
    share = places - first.astype(np.float32)
    second_weight = np.rint(share * np.float32(ONE)).astype(np.int64)
    first_weight = np.rint((1 - share) * np.float32(ONE)).astype(np.int64)
    return first.clip(0, length - 1), first_weight, (first + 1).clip(0, length - 1), second_weight
