"""The loss clamp against WeakTr's code.

It has one ceiling for all images of a batch, from their mean loss, and counts pixels without a label.
"""

import pytest
import torch
from torch.nn import functional

from tests.parity_beyond.cases import Case, cases, marked, opened, seed, weights
from weakclip.masks import IGNORE
from weakclip.pixel_loss import LossClamp

TOLERANCE = 2e-5


@pytest.mark.parametrize("case", marked(cases("loss_clamp")))
def test_losses_above_their_patch_are_clamped_as_published(case: Case) -> None:
    with opened(case) as stored:
        for number in stored.numbers("shape_{}"):
            shape, scale = stored.array(f"shape_{number}"), stored.array(f"scale_{number}")
            logits = torch.from_numpy(weights().image(f"clamp{number}", shape, seed(case)) * scale).requires_grad_()
            labels = torch.from_numpy(stored.array(f"label_{number}")).long()
            loss = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
            clamp = LossClamp(int(stored.array(f"patch_{number}")), float(stored.array(f"start_value_{number}")))
            shared = loss.detach().mean(dim=0, keepdim=True)
            clamped = torch.minimum(loss, clamp.ceiling(shared, torch.ones_like(shared, dtype=torch.bool)))
            clamped.mean().backward()
            stored.check_of_max(f"loss_{number}", loss.detach().numpy(), TOLERANCE)
            stored.check_of_max(f"clamped_{number}", clamped.detach().numpy(), TOLERANCE)
            stored.check_of_max(f"mean_{number}", clamped.detach().mean().numpy(), TOLERANCE)
            assert logits.grad is not None
            stored.check_of_max(f"gradient_{number}", logits.grad.numpy(), TOLERANCE)
