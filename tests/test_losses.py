"""Losses against hand-computed numbers."""

import math

import pytest
import torch

from weakclip.losses import boundary_loss, class_probabilities, cues, score_map_loss, seeding_loss
from weakclip.masks import IGNORE
from weakclip.pixel_loss import LossClamp


def test_cues_are_one_hot_and_empty_where_unsure() -> None:
    seed = torch.tensor([[[0, 2, IGNORE]]])
    assert cues(seed, 3)[0, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_seeding_loss_weights_background_and_foreground_alike() -> None:
    # Three background pixels with p0 = 1/2, one foreground pixel with p1 = 1/4.
    probabilities = torch.tensor([[[[0.5, 0.5, 0.5, 0.75]], [[0.5, 0.5, 0.5, 0.25]]]])
    seed = torch.tensor([[[0, 0, 0, 1]]])
    loss = seeding_loss(probabilities, cues(seed, 2))
    assert loss.item() == pytest.approx(math.log(2) + math.log(4), rel=1e-6)


def test_seeding_loss_of_an_image_without_cues_is_zero_and_has_a_gradient() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = seeding_loss(class_probabilities(logits), cues(torch.full((1, 2, 2), IGNORE), 3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_a_clamped_pixel_of_the_seeding_loss_counts_with_its_ceiling_and_has_no_gradient() -> None:
    # Background losses log 2 and log 8, a foreground loss of log 2: their mean is 5/3 log 2.
    background = torch.tensor([0.5, 0.125, 0.5], requires_grad=True)
    probabilities = torch.stack([background, 1 - background])[None, :, None]
    loss = seeding_loss(probabilities, cues(torch.tensor([[[0, 0, 1]]]), 2), LossClamp(patch=3, start=2.0))
    loss.backward()
    assert loss.item() == pytest.approx((1 + 5 / 3) / 2 * math.log(2) + math.log(2))
    assert background.grad is not None and background.grad[1] == 0 and (background.grad[[0, 2]] != 0).all()


def test_boundary_loss_is_zero_where_the_crf_agrees() -> None:
    p = class_probabilities(torch.randn(2, 3, 4, 4))
    assert boundary_loss(p, p).abs().item() < 2e-4


def test_boundary_loss_cuts_the_ratio_and_its_gradient() -> None:
    p = torch.tensor([[[[1e-4]], [[1 - 1e-4]]]], requires_grad=True)
    q = torch.tensor([[[[1.0]], [[0.0]]]])
    loss = boundary_loss(p, q)
    loss.backward()
    lifted = 1e-4 / (1 + 1e-4)  # what the zero of q is lifted to
    assert loss.item() == pytest.approx((1 - lifted) * math.log(20) + lifted * math.log(0.05), rel=1e-4)
    assert p.grad is not None and p.grad.abs().max() == 0


def test_score_map_loss_leaves_unsure_pixels_out() -> None:
    scores = torch.tensor([[[[0.07, 0.0]], [[0.0, 0.07]]]])
    expected = -math.log(math.e / (math.e + 1))
    for seed in ([[0, 1]], [[0, IGNORE]]):
        assert score_map_loss(scores, torch.tensor([seed]), 0.07).item() == pytest.approx(expected, rel=1e-5)


def test_score_map_loss_of_only_unsure_pixels_is_zero() -> None:
    assert score_map_loss(torch.rand(1, 2, 2, 2), torch.full((1, 4, 4), IGNORE), 0.07).item() == 0
