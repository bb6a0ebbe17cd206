"""The CAM classifier and its figures."""

import math

import pytest
import torch
from torch.nn import functional

from weakclip.cam.classifier import CamClassifier, mean_average_precision, tag_loss, tag_scores


def test_an_untrained_classifier_is_clips_zero_shot_answer() -> None:
    texts = functional.normalize(torch.randn(5, 8), dim=-1)
    visual = torch.randn(3, 4, 8)
    logits = CamClassifier(texts, 2, temperature=0.1)(visual)
    assert torch.allclose(logits, functional.normalize(visual, dim=-1) @ texts.T / 0.1, atol=1e-5)


def test_tag_score_is_the_mean_over_the_best_tokens() -> None:
    shares = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.1, 0.9]])
    assert tag_scores(shares.log()[None], 1, share=0.5).item() == pytest.approx(0.7)


def test_tag_loss_weights_present_and_absent_alike() -> None:
    scores, tags = torch.tensor([[0.5, 0.75, 0.75, 0.75]]), torch.tensor([[True, False, False, False]])
    assert tag_loss(scores, tags).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_average_precision_by_hand() -> None:
    # Ranked: hit, miss, hit -> (1/1 + 2/3) / 2. A class without a tag is left out.
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    tags = torch.tensor([[True, False], [False, False], [True, False]])
    assert mean_average_precision(scores, tags) == pytest.approx((1 + 2 / 3) / 2)
