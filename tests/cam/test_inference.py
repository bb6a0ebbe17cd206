"""Activation maps and seeds."""

import numpy as np
import pytest
import torch

from weakclip.cam.inference import ViewMaps, fuse_views, normalise
from weakclip.cam.seeds import Threshold, label_pixels, make_seed, resize_maps
from weakclip.cam.thresholds import fixed_thresholds
from weakclip.masks import IGNORE


def view(values: list[list[float]], flip: bool = False) -> ViewMaps:
    """A view of one class."""
    return ViewMaps(maps=torch.tensor([values]), flip=flip)


def test_a_mirrored_view_is_turned_back() -> None:
    assert fuse_views([view([[0.2, 0.6]]), view([[0.6, 0.2]], flip=True)]).tolist() == view([[0.2, 0.6]]).maps.tolist()


def test_views_are_fused_at_the_largest_grid() -> None:
    maps = fuse_views([view([[1.0, 0.0]]), view([[0.0, 0.0, 0.0, 1.0]] * 2)])
    assert maps.shape == (1, 2, 4)
    assert maps[0, 0].tolist() == pytest.approx([0.5, 0.375, 0.125, 0.5])  # bilinear, corners not aligned


def test_a_map_of_zeros_stays_zero() -> None:
    assert normalise(torch.zeros(1, 2, 2)).abs().max() == 0


def test_thresholds_make_background_class_and_unsure() -> None:
    maps = np.array([[[0.9, 0.55, 0.2, 0.1]], [[0.1, 0.1, 0.3, 0.8]]], np.float32)
    assert label_pixels(maps, [3, 7], fixed_thresholds(7, 0.5, 0.1)).tolist() == [[3, 3, 0, 7]]
    assert make_seed(maps, [3, 7], fixed_thresholds(7, 0.5, 0.1)).tolist() == [[3, IGNORE, 0, 7]]


def test_each_class_has_a_threshold_of_its_own() -> None:
    maps = np.array([[[0.9, 0.55, 0.2, 0.1]], [[0.1, 0.1, 0.3, 0.8]]], np.float32)
    own = {3: Threshold(at=0.6, below=0.1, above=0.0), 7: Threshold(at=0.25, below=0.0, above=0.1)}
    assert label_pixels(maps, [3, 7], own).tolist() == [[3, 0, 7, 7]]
    assert make_seed(maps, [3, 7], own).tolist() == [[3, IGNORE, IGNORE, 7]]


def test_an_image_without_tags_is_background() -> None:
    assert make_seed(np.zeros((0, 2, 3), np.float32), [], {}).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert resize_maps(np.zeros((0, 2, 3), np.float32), 4, 6).shape == (0, 4, 6)
