"""The lattice that Gaussian filters go through."""

import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from weakclip.permutohedral import PIECE, PermutohedralLattice, pieces, simplices

Corner = tuple[int, ...]


def scattered(count: int, dimensions: int, spread: float = 3.0, seed: int = 0) -> Tensor:
    return spread * torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def one_group(points: Tensor) -> PermutohedralLattice:
    return PermutohedralLattice(points, torch.zeros(len(points), dtype=torch.int64), 1)


def lifted(points: Tensor) -> Tensor:
    """Where points (N, d) are in the plane of d + 1 coordinates that sum to zero: a matrix product, in float64."""
    dimensions = points.shape[1]
    basis = torch.zeros(dimensions, dimensions + 1, dtype=torch.float64)
    for row in range(dimensions):
        basis[row, : row + 1] = 1
        basis[row, row + 1] = -(row + 1)
        basis[row] *= math.sqrt(2 / 3) * (dimensions + 1) / math.sqrt((row + 1) * (row + 2))
    return points.double() @ basis


def corners_of(cells: Tensor, ranks: Tensor) -> list[list[Corner]]:
    """The coordinates of each corner of each simplex, by remainder."""
    size = cells.shape[1]
    return [
        [
            tuple(size * cell + r - size * (rank > size - 1 - r) for cell, rank in zip(row, order, strict=True))
            for r in range(size)
        ]
        for row, order in zip(cells.tolist(), ranks.tolist(), strict=True)
    ]


def filtered_with_a_dictionary(points: Tensor, values: Tensor) -> Tensor:
    """The filter as its authors describe it, corner by corner."""
    cells, ranks, weights = simplices(points)
    corners, size = corners_of(cells, ranks), points.shape[1] + 1
    table: dict[Corner, Tensor] = defaultdict(lambda: torch.zeros(values.shape[1], dtype=torch.float64))
    for point, row in enumerate(corners):
        for corner, weight in zip(row, weights[point].double(), strict=True):
            table[corner] = table[corner] + weight * values[point]
    for axis in range(size):
        before = dict(table)
        for corner in before:
            step = [-1] * size
            step[axis] = size - 1
            for sign in (1, -1):
                near = tuple(place + sign * along for place, along in zip(corner, step, strict=True))
                if near in before:
                    table[corner] = table[corner] + 0.5 * before[near]
    found = [
        sum(weight * table[corner] for corner, weight in zip(row, weights[point].double(), strict=True))
        for point, row in enumerate(corners)
    ]
    return torch.stack([torch.as_tensor(value) for value in found]) / (1 + 2.0 ** -(size - 1))


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_a_point_is_the_weighted_mean_of_the_corners_of_its_simplex(dimensions: int) -> None:
    points = scattered(300, dimensions)
    cells, ranks, weights = simplices(points)
    corners = torch.tensor(corners_of(cells, ranks), dtype=torch.float64)
    assert (corners.sum(dim=2) == 0).all()
    torch.testing.assert_close((weights[:, :, None] * corners).sum(dim=1), lifted(points), atol=1e-4, rtol=0)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(300))
    assert weights.min() > -1e-5
    assert torch.equal(ranks.sort(dim=1).values, torch.arange(dimensions + 1).expand(300, -1))


@pytest.mark.parametrize(("dimensions", "spread"), [(1, 3.0), (2, 2.0), (5, 0.5), (5, 3.0)])
def test_it_filters_as_the_authors_describe_it(dimensions: int, spread: float) -> None:
    points = scattered(80, dimensions, spread)
    values = torch.rand(80, 3, generator=torch.Generator().manual_seed(1))
    found = one_group(points).filtered(values)
    torch.testing.assert_close(found.double(), filtered_with_a_dictionary(points, values), atol=1e-5, rtol=1e-5)


def test_on_a_plane_it_is_near_a_gaussian() -> None:
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    points = torch.stack([rows, columns], dim=2).reshape(-1, 2) / 3
    values = torch.rand(24 * 24, 1, generator=torch.Generator().manual_seed(0))
    kernel = (-torch.cdist(points, points).square() / 2).exp()
    wanted = kernel @ values / kernel.sum(dim=1, keepdim=True)
    lattice = one_group(points)
    found = lattice.filtered(values) / lattice.filtered(torch.ones_like(values))
    assert (found - wanted).abs().max() < 0.05
    assert torch.corrcoef(torch.cat([found, wanted], dim=1).T)[0, 1] > 0.98


def test_normalised_it_is_symmetric_and_keeps_what_is_alike() -> None:
    points = scattered(60, 2, 1.0)
    lattice = one_group(points)
    ones = lattice.filtered(torch.ones(60, 1))
    plain = lattice.filtered(torch.eye(60))
    lattice.normalise()
    roots = ones.rsqrt()
    torch.testing.assert_close(lattice.filtered(torch.eye(60)), roots * plain * roots.T, atol=1e-5, rtol=1e-4)
    everywhere = one_group(torch.zeros(60, 2))
    everywhere.normalise()
    torch.testing.assert_close(everywhere.filtered(torch.ones(60, 1)), torch.ones(60, 1))


def test_groups_do_not_see_each_other_and_give_the_bytes_that_they_give_alone() -> None:
    parts = [scattered(70, 5, 1.0, seed) for seed in range(3)]
    values = [torch.rand(70, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    together = PermutohedralLattice(torch.cat(parts), torch.arange(3).repeat_interleave(70), 3).filtered(torch.cat(values))
    for part, value, found in zip(parts, values, together.split(70), strict=True):
        assert torch.equal(one_group(part).filtered(value), found)


@pytest.mark.parametrize("count", [1, PIECE, PIECE + 1, 10 * PIECE])
def test_a_corner_has_all_that_is_handed_to_it_however_much_it_is(count: int) -> None:
    points = torch.full((count, 2), 0.3)
    values = torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
    found = one_group(points).filtered(values)
    torch.testing.assert_close(found.double(), filtered_with_a_dictionary(points, values), atol=0, rtol=1e-5)


def test_lists_are_cut_into_pieces_of_at_most_a_fixed_length() -> None:
    begins, first = pieces(torch.tensor([3, 2 * PIECE, 0, PIECE + 1]))
    assert begins.tolist() == [0, 3, 3 + PIECE, 3 + 2 * PIECE, 3 + 3 * PIECE]
    assert first.tolist() == [0, 1, 3, 3]  # the third is empty


@pytest.mark.parametrize("spread", [1e5, 1e7, torch.nan])
def test_points_that_spread_too_far_are_refused(spread: float) -> None:
    with pytest.raises(ValueError, match=r"more than can be numbered|standard deviations from the origin"):
        one_group(spread * torch.eye(5))
