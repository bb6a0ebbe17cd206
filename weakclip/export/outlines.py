"""A region's outline as one polygon, for formats that know nothing else.

Corners lie between pixels: the pixel in column x and row y covers x..x+1 and y..y+1. Holes are joined to the outer ring by a
cut there and back, so that one ring tells it all: few formats can say it in another way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from weakclip.regions import Region

Point = tuple[int, int]
Ring = NDArray[np.int64]
"""(n, 2) corners x, y of a closed line, the first not repeated."""

TOLERANCE: Final = 0.75
"""Pixels by which a polygon may leave the outline: the steps of a slanted edge, which are up to 0.71 off it, become a line."""
EXACT_AREA: Final = 64  # of regions so small that a step more or less matters, in pixels


def polygon(region: Region) -> Ring:
    """The region's outline in the photo, clockwise; exact for regions under 64 pixels, within 3/4 of a pixel for others."""
    outer, *holes = rings(region.pixels)
    if region.area >= EXACT_AREA:
        outer, *holes = (simplified(ring) for ring in (outer, *holes))
    for hole in holes:
        outer = joined(outer, hole)
    moved: Ring = outer + np.array([region.left, region.top])
    return moved


def rings(pixels: NDArray[np.bool_]) -> list[Ring]:
    """Outlines of connected pixels (h, w): the outer one, clockwise, then those of holes, the other way round."""
    following = edges(pixels)
    found: list[Ring] = []
    while following:
        start = min(following)  # in reading order of y, x: what is first found is the outer ring
        corners = [start]
        point = first = following[start][0]
        step = (first[0] - start[0], first[1] - start[1])
        remove(following, start, first)
        # Where another ring touches the start, there is a step left that belongs to that one.
        while point != start or (start in following and left_of(start, step) != first):
            target = next_corner(following, point, step)
            turned = (target[0] - point[0], target[1] - point[1])
            if turned != step:
                corners.append(point)
            point, step = target, turned
        found.append(np.array([(x, y) for y, x in corners], np.int64))
    return found


def edges(pixels: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """Unit steps (y, x) to (y, x) along the outline by their first corner, the pixels on the right hand."""
    padded = np.pad(pixels, 1)
    inside, above, left = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    following: dict[Point, list[Point]] = defaultdict(list)
    for (dy0, dx0), (dy1, dx1), where in (
        ((0, 0), (0, 1), inside & ~above),
        ((0, 1), (0, 0), above & ~inside),
        ((1, 0), (0, 0), inside & ~left),
        ((0, 0), (1, 0), left & ~inside),
    ):
        for y, x in np.argwhere(where).tolist():
            following[y + dy0, x + dx0].append((y + dy1, x + dx1))
    return following


def next_corner(following: dict[Point, list[Point]], point: Point, step: Point) -> Point:
    """Takes a step from the point. Where two pixels touch at a corner, it turns left and thus keeps them in one ring."""
    targets = following[point]
    left = left_of(point, step)
    target = left if left in targets else targets[0]
    remove(following, point, target)
    return target


def left_of(point: Point, step: Point) -> Point:
    """The corner (y, x) to the left of one who came to the point with this step."""
    return point[0] - step[1], point[1] + step[0]


def remove(following: dict[Point, list[Point]], point: Point, target: Point) -> None:
    """Take one way on from a point off those that are left."""
    following[point].remove(target)
    if not following[point]:
        del following[point]


def simplified(ring: Ring) -> Ring:
    """The ring with fewer corners, all within 3/4 of a pixel of it (Douglas and Peucker, Cartographica 10, 1973).

    A ring that would fall together stays as it is.
    """
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([ring, ring[:1]])
    kept = np.zeros(len(closed), np.bool_)
    kept[[0, far, len(ring)]] = True
    spans = [(0, far), (far, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = distances_to(closed[first + 1 : last], closed[first], closed[last])
        middle = int(np.argmax(distances))
        if distances[middle] > TOLERANCE:
            middle += first + 1
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    fewer = ring[kept[:-1]]
    return fewer if len(fewer) > 2 else ring


def distances_to(points: Ring, start: Ring, end: Ring) -> NDArray[np.float64]:
    """Of points (n, 2) to the line between two others."""
    along = (end - start).astype(np.float64)
    squared = float(along @ along)
    offsets = (points - start).astype(np.float64)
    if squared:
        places = np.clip(offsets @ along / squared, 0, 1)
        offsets = offsets - places[:, None] * along
    found: NDArray[np.float64] = np.sqrt((offsets**2).sum(axis=1))
    return found


def joined(outer: Ring, hole: Ring) -> Ring:
    """One ring of an outer one and a hole: it goes to the hole where they are nearest, around it and back the same way."""
    distances = ((outer[:, None] - hole[None]) ** 2).sum(axis=2)
    here, there = np.unravel_index(int(np.argmin(distances)), distances.shape)
    around: Sequence[Ring] = (hole[there:], hole[: there + 1])
    return np.concatenate([outer[: here + 1], *around, outer[here:]])
