"""How maps are spread by attention."""

import numpy as np
import pytest
import torch

from weakclip.cam.affinity import affinity, balance, box_mask, spread, stretch


def test_balanced_attention_is_doubly_stochastic() -> None:
    balanced = balance(torch.rand(6, 6, generator=torch.Generator().manual_seed(0)), rounds=50)
    assert torch.allclose(balanced.sum(dim=0), torch.ones(6), atol=1e-5)
    assert torch.allclose(balanced.sum(dim=1), torch.ones(6), atol=1e-5)


def test_affinity_by_hand() -> None:
    # Balanced already and symmetric: its square.
    attention = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    assert affinity(attention).tolist() == [[0.625, 0.375], [0.375, 0.625]]


def test_boxes_are_around_regions_and_reach_the_border() -> None:
    activation = np.zeros((4, 5), np.float32)
    activation[0, 0], activation[1, 1], activation[3, 4] = 1.0, 0.9, 0.8
    expected = np.zeros((4, 5), bool)
    expected[:2, :2] = expected[3, 4] = True
    np.testing.assert_array_equal(box_mask(activation, 0.4), expected)
    expected[3, 4] = False
    np.testing.assert_array_equal(box_mask(activation, 0.4, limit_ends=True), expected)
    assert not box_mask(np.zeros((2, 2), np.float32), 0.4).any()


def test_only_what_is_in_a_box_is_spread() -> None:
    maps = torch.tensor([[[1.0, 0.3, 0.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]])
    neighbours = torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1.0]])
    assert spread(maps, neighbours, 0.4).tolist() == [[[0.5, 0.5, 0, 0]], [[0, 0, 0, 0]]]  # 0.3 is in no box
    assert spread(maps[:1], neighbours, 0.2)[0, 0].tolist() == pytest.approx([0.65, 0.65, 0.15, 0])


def test_stretched_maps_go_from_zero_to_one() -> None:
    stretched = stretch(torch.tensor([[[0.2, 0.6]], [[0.5, 0.5]]]))
    assert stretched[0, 0].tolist() == pytest.approx([0, 1]) and stretched[1].abs().max() == 0
