"""Affinity prediction, labels and loss, and the balanced segmentation loss, against WeCLIP and ExCEL."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity_beyond.cases import Case, Stored, cases, marked, opened, seed, weights
from weakclip.masks import IGNORE
from weakclip.pixel_loss import PixelLoss
from weakclip.predicted_affinity import affinity_labels, affinity_loss, cosine_affinity, product_affinity

TOLERANCE = 2e-5
CELL = 16
"""Pixels of a label map to a token."""
LABEL_STEP = 8
"""One in so many rows and columns of the label map is stored."""
RELEASED_GRID, RELEASED_RADIUS = 20, 8


@pytest.mark.parametrize("case", marked(cases("affinity_losses")))
def test_affinity_is_predicted_and_taught_as_published(case: Case) -> None:
    with opened(case) as stored:
        few, many = stored.array("label"), (int(stored.shape("label")[-1]) * LABEL_STEP,) * 2
        classes = int(few[few != IGNORE].max()) + 1
        full = weights().labels("affinity", (len(few), *many), classes, seed(case))
        stored.check("label", full[:, ::LABEL_STEP, ::LABEL_STEP])
        radius = int(stored.array("radius"))
        labels = affinity_labels(torch.from_numpy(full[:, ::CELL, ::CELL].astype(np.int64)), radius)
        stored.check("affinity_label", labels.numpy())
        counts = [int((labels == value).sum()) + 1 for value in (1, 0)]
        stored.check("counts_plus_one", counts)
        stored.check("radius_mask", near(labels.shape[1], radius))
        stored.check("radius8_mask_count", int(near(RELEASED_GRID**2, RELEASED_RADIUS).sum()))
        shape = stored.shape("weclip_gradient")
        predictors: dict[str, Callable[[Tensor], Tensor]] = {
            "weclip": product_affinity,
            "excel": partial(cosine_affinity, over_batch=True),
        }
        for name, predict in predictors.items():
            features = torch.from_numpy(weights().image("affinity_features", shape, seed(case))).requires_grad_()
            affinity = predict(features)
            loss = affinity_loss(affinity, labels)
            loss.backward()
            assert features.grad is not None
            stored.check_of_max(f"{name}_prediction", affinity.detach().numpy(), TOLERANCE)
            stored.check_of_max(f"{name}_loss", loss.detach().numpy(), TOLERANCE)
            stored.check_of_max(f"{name}_gradient", features.grad.numpy(), TOLERANCE)
        check_balanced_loss(stored, seed(case))


def near(tokens: int, radius: int) -> np.ndarray:
    """Pairs of a square grid that have a label where all tokens have one."""
    side = round(tokens**0.5)
    return (affinity_labels(torch.zeros(1, side, side, dtype=torch.long), radius)[0] == 1).numpy()


def check_balanced_loss(stored: Stored, number: int) -> None:
    shape = stored.shape("excel_seg_gradient")
    drawn = weights().labels("seg", (shape[0], *shape[2:]), shape[1], number)
    mixed = torch.from_numpy(drawn.astype(np.int64))
    foreground = (mixed != 0) & (mixed != IGNORE)
    maps = {
        "mixed": mixed,
        "only_background": mixed.masked_fill(foreground, 0),
        "only_foreground": mixed.masked_fill(mixed == 0, IGNORE),
        "all_ignored": torch.full_like(mixed, IGNORE),
    }
    for name, labels in maps.items():
        logits = torch.from_numpy(weights().image("seg_logits", shape, number)).requires_grad_()
        loss = PixelLoss(balanced=True)(logits, labels)
        loss.backward()
        assert logits.grad is not None
        stored.check_of_max(f"excel_seg_{name}", loss.detach().numpy(), TOLERANCE)
        if f"excel_seg_gradient_norm_{name}" in stored:
            stored.check_of_max(f"excel_seg_gradient_norm_{name}", logits.grad.norm().numpy(), TOLERANCE)
        if name == "mixed":
            stored.check_of_max("excel_seg_gradient", logits.grad.numpy(), TOLERANCE)
            stored.check_of_max("weclip_seg_mixed", loss.detach().numpy(), TOLERANCE)
        else:  # a division by zero that is not repeated here
            assert np.isnan(stored.array(f"weclip_seg_{name}"))
            assert torch.isfinite(loss)
