"""A Gaussian filter of values at scattered points, by way of a permutohedral lattice, in torch on any device.

Adams, Baek and Davis, "Fast high-dimensional filtering using the permutohedral lattice" (2010), which is also what pydensecrf
filters with. Points of d dimensions lie in simplices of d + 1 corners. A value is handed to the corners of its point's simplex
(splat), the corners are blurred along each of d + 1 axes, and each point gathers its corners again (slice). All three are
weighted sums of rows of a table, whose order is fixed: the same input gives the same bytes on a GPU, too.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

PIECE: Final = 128
"""Points that are summed up one after the other; a corner in a plain sky has thousands, which a GPU would take its time for."""
BLUR: Final = (1.0, 0.5, 0.5)
"""What a corner and its two neighbours along an axis weigh; their sum of two is taken back at the end, see `filtered`."""


class PermutohedralLattice:
    """The corners around points, ready to filter any values at them.

    ``points``: (N, d) float32, in standard deviations of the filter; N at most 2**31 / (d + 1). ``groups``: (N,) int64 from 0;
    points of different groups do not see each other, so that several photos can be filtered at once. It holds 8 (d + 1) bytes a
    point twice, and 12 (d + 1) a corner. Raises ValueError where the points spread over more cells than 63 bits can number.
    """

    def __init__(self, points: Tensor, groups: Tensor) -> None:
        dimensions = points.shape[1]
        cells, ranks, weights = simplices(points)
        numbers, strides = numbered_corners(cells, ranks, groups)
        corners, places = torch.unique(numbers, return_inverse=True)  # ascending, so that neighbours can be looked up
        count = len(corners)
        by_corner = places.flatten().argsort(stable=True)
        self._corner_of = places.int()  # (N, d + 1)
        self._weights = weights  # (N, d + 1)
        self._point_of = by_corner.div(dimensions + 1, rounding_mode="floor").int()
        self._weights_by_corner = weights.flatten()[by_corner]
        # Of one corner more, which nobody hands anything to: it stands for neighbours that are not there.
        starts = torch.searchsorted(places.flatten()[by_corner], torch.arange(count + 1, device=points.device))
        self._pieces, self._pieces_of = pieces(starts, len(by_corner))
        self._neighbours = [neighbours(corners, strides, axis) for axis in range(dimensions + 1)]
        self._blur = points.new_tensor(BLUR).expand(count + 1, 3).contiguous()
        self._scale = 1 / (1 + 2.0**-dimensions)

    def filtered(self, values: Tensor) -> Tensor:
        """Values (N, C) float32 -> (N, C), blurred with a Gaussian whose weight at its own point is near one."""
        parts = functional.embedding_bag(
            self._point_of, values, self._pieces, mode="sum", per_sample_weights=self._weights_by_corner
        )
        every = torch.arange(len(parts), dtype=torch.int32, device=parts.device)
        table = functional.embedding_bag(every, parts, self._pieces_of, mode="sum")
        for around in self._neighbours:
            table = functional.embedding_bag(around, table, mode="sum", per_sample_weights=self._blur)
        return self._scale * functional.embedding_bag(self._corner_of, table, mode="sum", per_sample_weights=self._weights)

    def normalise(self) -> None:
        """Divide by the root of what ones become, at the point that gives and at the one that takes (symmetric)."""
        roots = (self.filtered(self._weights.new_ones(len(self._weights), 1)) + 1e-20).rsqrt()[:, 0]
        self._weights = self._weights * roots[:, None]
        self._weights_by_corner = self._weights_by_corner * roots[self._point_of]


def simplices(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each of the points (N, d).

    Returns the cell, (N, d + 1) int64: the nearest corner of remainder 0, divided by d + 1; the ranks of the point's
    coordinates in it, (N, d + 1) int64, 0 the largest; and the barycentric weights of the corners, (N, d + 1) float32, by
    remainder.
    """
    dimensions = points.shape[1]
    corners = dimensions + 1
    # Onto the plane whose coordinates sum to zero, so that blurring has a standard deviation of one.
    lifted = torch.empty(len(points), corners, device=points.device)
    lifted[:, 0] = 0
    for axis in range(dimensions, 0, -1):
        scaled = points[:, axis - 1] * (math.sqrt(2 / 3) * corners / math.sqrt(axis * (axis + 1)))
        lifted[:, axis] = lifted[:, 0] - axis * scaled
        lifted[:, 0] += scaled
    cells = (lifted * (1 / corners)).round()
    offsets = lifted - cells * corners
    ranks = torch.zeros_like(offsets, dtype=torch.int64)
    for place in range(corners):  # of equal ones the first ranks first
        ranks[:, :place] += offsets[:, place, None] > offsets[:, :place]
        ranks[:, place + 1 :] += offsets[:, place, None] >= offsets[:, place + 1 :]
    # The nearest corners' coordinates need not sum to zero: those that were rounded furthest go back.
    ranks += cells.sum(dim=1, keepdim=True).long()
    wrapped = (ranks < 0).long() - (ranks > dimensions).long()
    cells, ranks = cells.long() + wrapped, ranks + corners * wrapped
    falling = torch.empty_like(lifted).scatter_(1, ranks, lifted / corners - cells)
    weights = falling.flip(1)
    weights[:, 1:] -= falling.flip(1)[:, :-1]
    weights[:, 0] += 1 - falling[:, 0]
    return cells, ranks, weights


def numbered_corners(cells: Tensor, ranks: Tensor, groups: Tensor) -> tuple[Tensor, list[int]]:
    """A number, (N, d + 1) int64, for each corner of each simplex, and what a step of d + 1 along each axis adds to it.

    A corner of remainder r has the coordinates (d + 1) cell + r, less d + 1 where the rank is above d - r; the last follows
    from the others. So its number is made of the group, the cell and, as the last digit, r.
    """
    corners = cells.shape[1]
    lowest, highest = (edge.tolist() for edge in torch.aminmax(cells[:, :-1], dim=0))
    spans = [high - low + 4 for low, high in zip(lowest, highest, strict=True)]  # corners lie one below, neighbours around them
    strides = [corners * math.prod(spans[place + 1 :]) for place in range(corners - 1)]
    if corners * math.prod(spans) * (int(groups.max()) + 1) >= 2**63:
        raise ValueError(f"the points spread over {' x '.join(map(str, spans))} cells, which are more than can be numbered")
    steps = cells.new_tensor(strides)
    first = ((cells[:, :-1] - cells.new_tensor(lowest) + 2) * steps).sum(dim=1) + corners * math.prod(spans) * groups
    numbers = [first + r - (steps * (ranks[:, :-1] > corners - 1 - r)).sum(dim=1) for r in range(corners)]
    return torch.stack(numbers, dim=1), [*strides, 0]


def neighbours(corners: Tensor, strides: list[int], axis: int) -> Tensor:
    """Of each of the corners, ascending numbers (M,), and of none: itself and both neighbours along an axis, (M + 1, 3) int32.

    A neighbour that is not there is M. One step takes one from every coordinate, but adds d along the axis.
    """
    count, digits = len(corners), len(strides)
    remainders = corners % digits
    around = [torch.arange(count, device=corners.device)]
    for sign, last in ((1, 0), (-1, digits - 1)):
        wrapped = strides[axis] - sum(strides) + digits - 1
        number = corners + sign * torch.where(remainders == last, wrapped, strides[axis] - 1)
        found = torch.searchsorted(corners, number).clamp_(max=count - 1)
        around.append(torch.where(corners[found] == number, found, count))
    return functional.pad(torch.stack(around, dim=1), (0, 0, 0, 1), value=count).int()


def pieces(starts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Lists in a row of ``total`` entries, which begin at the ascending ``starts`` (M,), in pieces of at most `PIECE` entries.

    Returns where each piece begins, (P,) int32, and the first piece of each list, (M,) int32; an empty list has none.
    """
    ends = functional.pad(starts[1:], (0, 1), value=total)
    counts = (ends - starts + PIECE - 1).div(PIECE, rounding_mode="floor")
    first = counts.cumsum(0) - counts
    lists = torch.arange(len(starts), device=starts.device).repeat_interleave(counts)
    place = torch.arange(len(lists), device=starts.device) - first[lists]
    return (starts[lists] + PIECE * place).int(), first.int()
