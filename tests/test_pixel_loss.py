"""Clamped and balanced cross entropy against hand-computed numbers."""

import math

import pytest
import torch
from torch import Tensor

from weakclip.masks import IGNORE
from weakclip.pixel_loss import PLAIN, LossClamp, PixelLoss, balanced_mean, loss_ceiling

LOSS = torch.tensor([[[0.0, 2.0, 1.0, 1.0], [0.0, 6.0, 1.0, 9.0]]])
"""One map of two patches of 2 x 2: means 2 and 3, that of all 2.5."""


def everything(loss: Tensor) -> Tensor:
    return torch.ones_like(loss, dtype=torch.bool)


def logits_for(loss: list[float]) -> tuple[Tensor, Tensor]:
    """Logits of two classes whose cross entropy on class 0 is ``loss`` pixel by pixel, and those labels: of one row."""
    values = torch.tensor(loss)
    return torch.stack([-torch.log(values.exp() - 1), torch.zeros_like(values)])[None, :, None], torch.zeros(
        1, 1, len(loss)
    ).long()


def test_the_ceiling_is_the_mean_of_the_patch_and_at_least_that_of_all() -> None:
    assert loss_ceiling(LOSS, everything(LOSS), 2).tolist() == [[[2.5, 2.5, 3, 3], [2.5, 2.5, 3, 3]]]


def test_pixels_without_a_label_do_not_count() -> None:
    known = everything(LOSS)
    known[0, 1, 3] = False
    assert loss_ceiling(LOSS, known, 2)[0, 0].tolist() == pytest.approx([2, 2, 11 / 7, 11 / 7])


def test_a_patch_without_labels_has_the_mean_of_all_as_its_ceiling() -> None:
    known = everything(LOSS)
    known[:, :, :2] = False
    assert (loss_ceiling(LOSS, known, 2) == 3).all()


def test_patches_are_cut_at_the_borders() -> None:
    assert loss_ceiling(LOSS, everything(LOSS), 3)[0, 0].tolist() == pytest.approx([2.5, 2.5, 2.5, 5])


def test_images_have_ceilings_of_their_own() -> None:
    loss = torch.cat([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 4.0)])
    assert loss_ceiling(loss, everything(loss), 2).amax(dim=(1, 2)).tolist() == [2, 4]


def test_the_clamp_cuts_values_and_gradients_above_the_ceiling() -> None:
    logits, labels = logits_for([0.5, 0.5, 0.5, 2.5])
    logits.requires_grad_()
    loss = PixelLoss(LossClamp(patch=4, start=1.2))(logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx((3 * 0.5 + 1.0) / 4)
    assert logits.grad is not None
    assert logits.grad[0, 0, 0, 3] == 0 and (logits.grad[0, 0, 0, :3] < 0).all()


def test_the_clamp_waits_until_the_mean_loss_is_low() -> None:
    logits, labels = logits_for([0.5, 0.5, 0.5, 2.5])
    assert PixelLoss(LossClamp(patch=4, start=0.9))(logits, labels).item() == pytest.approx(1.0)


def test_balance_weighs_background_and_all_foreground_alike() -> None:
    loss, labels = torch.tensor([[[3.0, 1.0, 2.0, 9.0]]]), torch.tensor([[[0, 0, 0, IGNORE]]])
    assert balanced_mean(loss, labels).item() == pytest.approx(1.0)  # no foreground: it adds nothing
    labels[0, 0, 1:3] = torch.tensor([1, 2])
    assert balanced_mean(loss, labels).item() == pytest.approx(3 / 2 + 1.5 / 2)


def test_the_balanced_loss_without_any_label_is_zero_and_has_a_gradient() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = PixelLoss(LossClamp(2, 1.0), balanced=True)(logits, torch.full((1, 4, 4), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and logits.grad.abs().max() == 0


def test_nothing_to_clamp_or_to_balance_is_the_plain_cross_entropy() -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    expected = PLAIN(logits, labels).item()
    assert PixelLoss(LossClamp(patch=1, start=math.inf))(logits, labels).item() == pytest.approx(expected)
    assert PixelLoss(LossClamp(patch=4, start=0))(logits, labels).item() == pytest.approx(expected)
