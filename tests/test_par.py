"""Pixel-adaptive refinement: hand-computed weights, and what it does at edges."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from weakclip.par import ParKernel, neighbour_distances, neighbour_weights, neighbours, par_probabilities, refine_by_pixels

KERNEL = ParKernel(dilations=(1, 2), iterations=5)


def halves(height: int = 12, width: int = 12) -> np.ndarray:
    """A photo that is dark on the left and bright on the right, with a little noise."""
    photo = np.random.default_rng(0).normal(60, 2, (height, width, 3))
    photo[:, width // 2 :] += 120
    return photo.clip(0, 255).astype(np.uint8)


def test_neighbours_are_listed_row_by_row_and_borders_are_repeated() -> None:
    maps = torch.arange(6.0).view(1, 1, 2, 3)
    found = torch.cat(list(neighbours(maps, (1,))), dim=1)[0]
    assert found[:, 1, 1].tolist() == [0, 1, 2, 3, 5, 3, 4, 5]
    assert found[:, 0, 0].tolist() == [0, 0, 1, 0, 1, 3, 3, 4]


def test_diagonal_neighbours_are_further_away() -> None:
    root = math.sqrt(2)
    ring = [root, 1, root, 1, 1, root, 1, root]
    assert neighbour_distances((1, 3)) == pytest.approx(ring + [3 * distance for distance in ring])


def test_weights_follow_from_colour_and_distance() -> None:
    # The middle pixel is 0, as are seven neighbours; the one on its right is 8. Their sample deviation is sqrt(8).
    photo = torch.zeros(1, 3, 3, 3)
    photo[:, :, 1, 2] = 8
    weights = neighbour_weights(photo, (1,))[0, :, 1, 1]
    alike = math.exp(-((8 / math.sqrt(8) / 0.3) ** 2))
    colour = torch.full((8,), 1 / (7 + alike))
    colour[4] = alike / (7 + alike)
    distances = torch.tensor(neighbour_distances((1,)))
    near = (-((distances / (distances.std() * 0.3)) ** 2)).softmax(dim=0)
    torch.testing.assert_close(weights, colour + 0.01 * near)


def test_sums_grow_by_the_weight_of_distance_an_iteration() -> None:
    photo, maps = torch.rand(2, 3, 9, 7), torch.rand(2, 4, 9, 7).softmax(dim=1)
    total = refine_by_pixels(photo, maps, KERNEL).sum(dim=1)
    torch.testing.assert_close(total, torch.full_like(total, 1.01**5))


def test_the_range_of_the_photo_is_of_no_account() -> None:
    photo, maps = torch.rand(1, 3, 9, 7), torch.rand(1, 2, 9, 7)
    torch.testing.assert_close(
        refine_by_pixels(photo, maps, KERNEL), refine_by_pixels(255 * photo, maps, KERNEL), rtol=1e-3, atol=1e-4
    )


def test_a_photo_of_another_size_is_resized_with_corners_aligned() -> None:
    photo, maps = torch.rand(1, 3, 3, 3), torch.rand(1, 2, 5, 5)
    larger = torch.nn.functional.interpolate(photo, size=(5, 5), mode="bilinear", align_corners=True)
    assert torch.equal(refine_by_pixels(photo, maps, KERNEL), refine_by_pixels(larger, maps, KERNEL))


def test_images_of_a_batch_and_maps_of_an_image_do_not_touch_each_other() -> None:
    photos, maps = torch.rand(2, 3, 9, 7), torch.rand(2, 4, 9, 7)
    together = refine_by_pixels(photos, maps, KERNEL)
    alone = refine_by_pixels(photos[1:], maps[1:, 2:3], KERNEL)
    torch.testing.assert_close(together[1:, 2:3], alone)


def test_probabilities_follow_the_edge_of_the_photo_and_sum_to_one() -> None:
    foreground = np.full((12, 12), 0.2, np.float32)
    foreground[:, 7:] = 0.8  # one pixel off: the edge is at 6
    refined = par_probabilities(halves(), np.stack([1 - foreground, foreground]), ParKernel(dilations=(1, 2, 4), iterations=10))
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)
    assert (refined[1, :, 6:] > 0.5).all() and (refined[1, :, :6] < 0.5).all()


def test_a_single_class_leaves_nothing_to_decide() -> None:
    assert (par_probabilities(halves(), np.full((1, 12, 12), 0.3, np.float32), KERNEL) == 1).all()


def test_the_same_input_gives_the_same_bytes() -> None:
    given: Tensor = torch.rand(2, 12, 12)
    first, second = (par_probabilities(halves(), given.numpy(), KERNEL).tobytes() for _ in range(2))
    assert first == second


def test_a_photo_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a photo of shape \(4, 4, 3\)"):
        par_probabilities(halves(), np.ones((2, 4, 4), np.float32), KERNEL)
