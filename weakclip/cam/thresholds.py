"""Thresholds between background and a class: one number for all, or for each class from its own maps. Torch-free.

A mixture of three Gaussians parts the values of a class's maps into background, unsure and foreground
(`weakclip.cam.mixture`). No mask is looked at. Values are counted in bins, so that memory does not grow with the number of
images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from weakclip.cam.mixture import CONVERGED, FLOOR, fit_mixture
from weakclip.cam.seeds import Threshold

BINS: Final = 500
"""Between 0 and 1: two thousandths each, which is finer than a threshold can be known."""


ClassMaps = tuple[Sequence[int] | NDArray[np.integer], NDArray[np.floating]]
"""1-based classes of an image and their maps (n, h, w), 0..1."""

Counts = NDArray[np.int64]


def fixed_thresholds(num_foreground: int, threshold: float, margin: float) -> dict[int, Threshold]:
    """One threshold for all classes, unsure within ``margin`` of it."""
    same = Threshold(at=threshold, below=margin, above=margin)
    return dict.fromkeys(range(1, num_foreground + 1), same)


def count_values(maps: Iterable[ClassMaps], num_foreground: int) -> Counts:
    """Histograms (num_foreground, BINS) of the values of images' maps."""
    counts = np.zeros((num_foreground, BINS), np.int64)
    for classes, values in maps:
        for index, plane in zip(classes, values, strict=True):
            counts[index - 1] += np.histogram(plane, bins=BINS, range=(0, 1))[0]
    return counts


def mixture_thresholds(counts: Counts) -> dict[int, Threshold]:
    """Thresholds of each class from the histogram of its values (num_foreground, BINS).

    Unsure is what lies between the largest value of the lowest component and the smallest of the highest one, and the threshold
    is midway. A class without values, or whose components do not part, takes what all classes together give.
    """
    common = _part(counts.sum(axis=0)) or Threshold(at=0.5, below=0.0, above=0.0)
    return {index: _part(histogram) or common for index, histogram in enumerate(counts, start=1)}


def _part(histogram: Counts) -> Threshold | None:
    centres = (np.arange(BINS) + 0.5) / BINS
    used = (histogram > 0) & (centres > FLOOR)
    values, counts = centres[used], histogram[used].astype(np.float64)
    if not values.size:
        return None
    median = values[np.searchsorted(counts.cumsum(), counts.sum() / 2)]
    components = fit_mixture(values, (values[0], median, values[-1]), CONVERGED, counts).components(values)
    below, above = values[components == 0], values[components == 2]
    if not below.size or not above.size or below[-1] >= above[0]:
        return None
    half = float(above[0] - below[-1]) / 2
    return Threshold(at=float(below[-1]) + half, below=half, above=half)
