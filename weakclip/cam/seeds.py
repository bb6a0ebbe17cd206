"""From class activation maps to a seed: class, background or unsure for every pixel. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.masks import IGNORE


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A score of at least ``at`` is the class; less than ``below`` under it, or less than ``above`` over it, is unsure."""

    at: float
    below: float
    above: float


Thresholds = Mapping[int, Threshold]
"""By 1-based class."""


def resize_maps(maps: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """(n, h, w) -> (n, height, width), bilinear."""
    if not len(maps):
        return np.zeros((0, height, width), np.float32)
    planes = [Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR) for plane in maps]
    return np.stack([np.asarray(plane, dtype=np.float32) for plane in planes])


def label_pixels(maps: NDArray[np.floating], classes: Sequence[int], thresholds: Thresholds) -> NDArray[np.uint8]:
    """The strongest class of every pixel, background (0) where it does not reach its threshold; (H, W) uint8.

    ``maps``: (n, H, W) in 0..1 for the 1-based ``classes``.
    """
    if not len(classes):
        return np.zeros(maps.shape[1:], np.uint8)
    strongest = maps.argmax(axis=0)
    wanted = np.array([thresholds[index].at for index in classes], np.float32)
    return np.where(maps.max(axis=0) >= wanted[strongest], np.asarray(classes, np.uint8)[strongest], 0).astype(np.uint8)


def make_seed(maps: NDArray[np.floating], classes: Sequence[int], thresholds: Thresholds) -> NDArray[np.uint8]:
    """`label_pixels` with 255 where the strongest class is in the unsure band of its threshold."""
    labels = label_pixels(maps, classes, thresholds)
    if len(classes):
        at, below, above = (
            np.array([getattr(thresholds[index], part) for index in classes], np.float32)[maps.argmax(axis=0)]
            for part in ("at", "below", "above")
        )
        over = maps.max(axis=0) - at
        labels[(over > -below) & (over < above)] = IGNORE
    return labels
