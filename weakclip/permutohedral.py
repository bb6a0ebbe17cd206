"""A Gaussian filter of values at scattered points, by way of a permutohedral lattice, in torch on any device.

Adams, Baek and Davis, "Fast high-dimensional filtering using the permutohedral lattice" (2010), which is also what pydensecrf
filters with. Points of d dimensions lie in simplices of d + 1 corners. A value is handed to the corners of its point's simplex
(splat), the corners are blurred along each of d + 1 axes, and each point gathers its corners again (slice). All three are
weighted sums of rows of a table, in a fixed order, so that the same input is to give the same bytes on a GPU, too.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

PIECE: Final = 128
"""Points that one thread of a GPU adds up, one after the other; a corner in a plain sky has thousands."""
BLUR: Final = (1.0, 0.5, 0.5)
"""What a corner and its two neighbours along an axis weigh; what that adds is taken back at the end, see `filtered`."""
FARTHEST: Final = 2.0**20
"""Standard deviations from the origin that points may have: beyond it float32 cannot tell the simplices apart."""


class PermutohedralLattice:
    """The corners around points, ready to filter any values at them.

    ``points``: (N, d) float32, in standard deviations of the filter; N at most 2**31 / (d + 1). ``groups``: (N,) int64, below
    ``count``; points of different groups do not see each other, so that several photos can be filtered at once. It holds
    16 (d + 1) bytes a point and 24 (d + 1) a corner; building it takes up to ten times that. Raises ValueError where points are
    too far from the origin, or spread over more cells than 63 bits can number.
    """

    def __init__(self, points: Tensor, groups: Tensor, count: int) -> None:
        if not points.abs().max() <= FARTHEST:
            raise ValueError(f"points are more than {FARTHEST:.0f} standard deviations from the origin")
        size = points.shape[1] + 1
        cells, ranks, weights = simplices(points)
        numbers, strides = numbered_corners(cells, ranks, groups, count)
        ascending, by_corner = numbers.flatten().sort(stable=True)
        corners, runs, lengths = torch.unique_consecutive(ascending, return_inverse=True, return_counts=True)
        self._corner_of = torch.empty_like(runs).scatter_(0, by_corner, runs).reshape(-1, size).int()  # (N, d + 1)
        self._weights = weights  # (N, d + 1)
        self._point_of = by_corner.div(size, rounding_mode="floor").int()
        self._weights_by_corner = weights.flatten()[by_corner]
        # Of one corner more, which nobody hands anything to: it stands for neighbours that are not there.
        self._pieces, self._pieces_of = pieces(functional.pad(lengths, (0, 1)))
        self._neighbours = [neighbours(corners, strides, axis) for axis in range(size)]
        self._blur = points.new_tensor(BLUR).expand(len(corners) + 1, 3).contiguous()
        self._scale = 1 / (1 + 2.0 ** (1 - size))

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
    rising = torch.empty_like(lifted).scatter_(1, dimensions - ranks, lifted / corners - cells)
    weights = rising.clone()
    weights[:, 1:] -= rising[:, :-1]
    weights[:, 0] += 1 - rising[:, -1]
    return cells, ranks, weights


def numbered_corners(cells: Tensor, ranks: Tensor, groups: Tensor, count: int) -> tuple[Tensor, list[int]]:
    """A number, (N, d + 1) int64, for each corner of each simplex, and what a step of d + 1 along each axis adds to it.

    A corner of remainder r has the coordinates (d + 1) cell + r, less d + 1 where the rank is above d - r; the last follows
    from the others. So its number is made of the group, the cell and, as the last digit, r.
    """
    corners = cells.shape[1]
    lowest, highest = torch.stack(torch.aminmax(cells[:, :-1], dim=0)).tolist()
    spans = [high - low + 4 for low, high in zip(lowest, highest, strict=True)]  # corners lie one below, neighbours around them
    strides = [corners * math.prod(spans[place + 1 :]) for place in range(corners - 1)]
    if corners * math.prod(spans) * count >= 2**63:
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
    every = torch.arange(count + 1, device=corners.device)
    wrapped = strides[axis] - sum(strides) + digits - 1
    number = corners + torch.where(corners % digits == 0, wrapped, strides[axis] - 1)
    found = torch.searchsorted(corners, number).clamp_(max=count - 1)
    onward = functional.pad(torch.where(corners[found] == number, found, count), (0, 1), value=count)
    back = torch.full_like(every, count).scatter_(0, onward, every)
    back[count] = count  # where all that have no neighbour have left themselves
    return torch.stack([every, onward, back], dim=1).int()


def pieces(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Lists of these lengths (M,), one after the other, in pieces of at most `PIECE` entries.

    Returns where each piece begins, (P,) int32, and the first piece of each list, (M,) int32; an empty list has none.
    """
    starts = lengths.cumsum(0) - lengths
    counts = (lengths + PIECE - 1).div(PIECE, rounding_mode="floor")
    first = counts.cumsum(0) - counts
    lists = torch.arange(len(lengths), device=lengths.device).repeat_interleave(counts)
    place = torch.arange(len(lists), device=lengths.device) - first[lists]
    return (starts[lists] + PIECE * place).int(), first.int()
