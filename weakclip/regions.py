"""Connected regions of a mask: what formats of objects call an object.

A mask says which pixels are cat, not how many cats there are; two that touch are one region, one behind a post is two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weakclip.masks import IGNORE

Run = tuple[int, int, int, int]
"""Row, first column, column after the last, class: pixels of one class side by side."""


@dataclass(frozen=True)
class Region:
    """Connected pixels of one class. ``pixels``: (h, w) bool, the smallest box around them, at ``top``, ``left`` of a mask."""

    class_index: int
    top: int
    left: int
    pixels: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """In pixels."""
        return int(np.count_nonzero(self.pixels))

    def in_photo(self, height: int, width: int) -> NDArray[np.bool_]:
        """(height, width) bool of the whole photo."""
        whole = np.zeros((height, width), np.bool_)
        whole[self.top : self.top + self.pixels.shape[0], self.left : self.left + self.pixels.shape[1]] = self.pixels
        return whole


def regions(mask: NDArray[np.uint8]) -> list[Region]:
    """The regions of a mask (H, W), by class and then by their first pixel; background and 255 are none.

    Pixels that touch at a corner are connected.
    """
    runs = foreground_runs(mask)
    members: dict[int, list[Run]] = {}
    for run, root in zip(runs, connect(runs), strict=True):
        members.setdefault(root, []).append(run)
    return sorted((assemble(group) for group in members.values()), key=lambda region: region.class_index)


def foreground_runs(mask: NDArray[np.uint8]) -> list[Run]:
    """All runs of a mask (H, W) but those of background and 255, row by row from left to right."""
    height, width = mask.shape
    begins = np.ones((height, width), np.bool_)
    begins[:, 1:] = mask[:, 1:] != mask[:, :-1]
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], mask.size)
    values = mask.ravel()[starts]
    wanted = (values != 0) & (values != IGNORE)
    starts, ends, values = starts[wanted], ends[wanted], values[wanted]
    rows = starts // width
    columns = (rows, starts - rows * width, ends - rows * width, values)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def connect(runs: list[Run]) -> list[int]:
    """For each run the number of the first run of its region."""
    parents = list(range(len(runs)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    above = 0
    for number, (row, start, end, value) in enumerate(runs):
        while above < number and (runs[above][0] < row - 1 or (runs[above][0] == row - 1 and runs[above][2] < start)):
            above += 1
        other = above
        while other < number and runs[other][0] == row - 1 and runs[other][1] <= end:
            if runs[other][3] == value:
                first, second = sorted((root(other), root(number)))
                parents[second] = first
            other += 1
    return [root(number) for number in range(len(runs))]


def assemble(runs: list[Run]) -> Region:
    """The region that the runs (row, start, end, class), from top to bottom, make up."""
    top, bottom = runs[0][0], runs[-1][0] + 1
    left, right = min(run[1] for run in runs), max(run[2] for run in runs)
    pixels = np.zeros((bottom - top, right - left), np.bool_)
    for row, start, end, _ in runs:
        pixels[row - top, start - left : end - left] = True
    return Region(class_index=runs[0][3], top=top, left=left, pixels=pixels)
