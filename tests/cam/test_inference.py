"""Activation maps and seeds."""

import numpy as np
import pytest
import torch

from weakclip.cam.classifier import CamClassifier
from weakclip.cam.inference import TokenGrid, activation_maps, normalise
from weakclip.cam.seeds import label_pixels, make_seed, resize_maps
from weakclip.masks import IGNORE


def classifier() -> CamClassifier:
    """Two classes and one background word, along three axes."""
    return CamClassifier(torch.eye(3), 2, temperature=0.1)


def grid(words: list[int], height: int, width: int, flip: bool = False) -> TokenGrid:
    return TokenGrid(tokens=torch.eye(3)[words], height=height, width=width, flip=flip)


def test_maps_are_high_on_tokens_of_the_class_and_low_on_background() -> None:
    maps = activation_maps(classifier(), [grid([0, 2, 2, 2], 2, 2)], tags=[1])
    assert maps.shape == (1, 2, 2)
    assert maps[0, 0, 0] == 1
    assert maps.flatten()[1:].max() < 0.01


def test_absent_classes_do_not_compete() -> None:
    mixed = torch.tensor([[0.5, 0.5, 0.0]])
    alone = activation_maps(
        classifier(), [TokenGrid(tokens=torch.cat([mixed, torch.eye(3)[:1]]), height=1, width=2, flip=False)], tags=[1]
    )
    assert alone[0, 0, 0].item() == pytest.approx(alone[0, 0, 1].item(), abs=0.01)


def test_a_mirrored_view_is_mirrored_back() -> None:
    plain = activation_maps(classifier(), [grid([0, 2], 1, 2)], tags=[1])
    mirrored = activation_maps(classifier(), [grid([2, 0], 1, 2, flip=True)], tags=[1])
    assert torch.allclose(plain, mirrored)


def test_views_are_fused_at_the_largest_grid() -> None:
    maps = activation_maps(classifier(), [grid([0, 2, 2, 2], 2, 2), grid([0] * 16, 4, 4)], tags=[1])
    assert maps.shape == (1, 4, 4)
    assert maps.max() == 1


def test_a_map_of_zeros_stays_zero() -> None:
    assert normalise(torch.zeros(1, 2, 2)).abs().max() == 0


def test_thresholds_make_background_class_and_unsure() -> None:
    maps = np.array([[[0.9, 0.55, 0.2, 0.1]], [[0.1, 0.1, 0.3, 0.8]]], np.float32)
    assert label_pixels(maps, [3, 7], 0.5).tolist() == [[3, 3, 0, 7]]
    assert make_seed(maps, [3, 7], 0.5, 0.1).tolist() == [[3, IGNORE, 0, 7]]


def test_an_image_without_tags_is_background() -> None:
    assert make_seed(np.zeros((0, 2, 3), np.float32), [], 0.5, 0.0).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert resize_maps(np.zeros((0, 2, 3), np.float32), 4, 6).shape == (0, 4, 6)
