"""Affinity of tokens: labels and losses by hand, and which layers of attention agree."""

import math

import pytest
import torch

from weakclip.masks import IGNORE
from weakclip.predicted_affinity import (
    affinity_labels,
    affinity_loss,
    agreeing_layers,
    cosine_affinity,
    guided_attention,
    product_affinity,
)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_pairs_are_of_one_class_of_two_or_of_no_account() -> None:
    labels = affinity_labels(torch.tensor([[[0, 3, 3, IGNORE]]]), radius=1)
    none = IGNORE
    assert labels[0].tolist() == [[1, 0, none, none], [0, 1, 1, none], [none, 1, 1, none], [none, none, none, none]]


def test_the_radius_holds_for_rows_and_for_columns() -> None:
    labels = affinity_labels(torch.zeros(1, 3, 3, dtype=torch.long), radius=1)
    assert (labels[0, 4] == 1).all()
    assert (labels[0, 0] == 1).nonzero().flatten().tolist() == [0, 1, 3, 4]


def test_the_loss_weighs_pairs_of_one_class_and_of_two_alike() -> None:
    affinity, labels = torch.tensor([[[0.75, 0.5], [0.5, 0.25]]]), torch.tensor([[[1, 0], [IGNORE, 1]]])
    assert affinity_loss(affinity, labels).item() == pytest.approx((1.0 / 3 + 0.5 / 2) / 2)


def test_the_loss_without_pairs_is_zero() -> None:
    assert affinity_loss(torch.rand(1, 2, 2), torch.full((1, 2, 2), IGNORE)).item() == 0


def test_products_and_centred_cosines() -> None:
    features = torch.tensor([[3.0, 0.0], [0.0, 2.0]]).view(1, 2, 1, 2)  # two tokens at right angles
    assert product_affinity(features)[0].tolist() == pytest.approx(torch.tensor([[sigmoid(9), 0.5], [0.5, sigmoid(4)]]))
    high, low = sigmoid(3 * 0.5), sigmoid(-3 * 0.5)  # cosines 1 and 0, their mean 1/2
    assert cosine_affinity(features)[0].tolist() == pytest.approx(torch.tensor([[high, low], [low, high]]))


def test_an_image_is_centred_by_its_own_mean_unless_asked_otherwise() -> None:
    features = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(cosine_affinity(features)[:1], cosine_affinity(features[:1]))
    assert not torch.allclose(cosine_affinity(features, over_batch=True)[:1], cosine_affinity(features[:1]))


def test_layers_that_differ_more_than_the_mean_are_left_out() -> None:
    affinity = torch.full((2, 2), 0.5)
    attention = torch.stack([torch.full((2, 2), value) for value in (0.1, 0.4, 0.5)])  # they differ by 1.6, 0.4 and 0
    assert agreeing_layers(attention, affinity).tolist() == [False, True, True]
    torch.testing.assert_close(guided_attention(attention, affinity), torch.full((2, 2), 0.45 * 0.5), rtol=1e-4, atol=0)


def test_every_image_of_a_batch_chooses_its_layers() -> None:
    torch.manual_seed(0)
    # The class token is cut off, as in use: rows that sum to 1 would make all layers differ alike.
    attention, affinity = torch.rand(4, 3, 6, 6).softmax(dim=-1)[..., 1:, 1:], torch.rand(3, 5, 5)
    assert len({tuple(kept) for kept in agreeing_layers(attention, affinity).T.tolist()}) > 1
    together = guided_attention(attention, affinity)
    for image in range(3):
        torch.testing.assert_close(together[image], guided_attention(attention[:, image], affinity[image]))
