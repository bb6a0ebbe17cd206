"""Cross entropy on labels of which some are wrong: clamped where it is far above its surroundings, balanced between the sides.

Two techniques, each of which can be left out. The clamp is WeakTr's (Zhu et al. 2023, "gradient clipping decoder"): a pixel
whose loss is above the mean of its patch has probably a wrong label, and teaches nothing while it is. The balance is that of
WeCLIP (CVPR 2024) and ExCEL (CVPR 2025): background, which is most of a photo, counts as much as all of the foreground.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from weakclip.masks import IGNORE
from weakclip.ranks import world
from weakclip.whole_batch import mean_count


@dataclass(frozen=True)
class LossClamp:
    """``patch``: side of the patches whose mean loss is the ceiling, pixels of the loss map. ``start``: the clamp is off while
    the mean loss is above this, since a network that knows nothing yet cannot tell which labels are wrong."""

    patch: int
    start: float

    def ceiling(self, loss: Tensor, known: Tensor) -> Tensor:
        """`loss_ceiling`, or infinity where the mean is above ``start``."""
        mean = mean_over_batch(loss, known)
        return torch.where(mean > self.start, torch.inf, loss_ceiling(loss, known, self.patch))


@dataclass(frozen=True)
class PixelLoss:
    """Mean cross entropy over labelled pixels. ``clamp``: of single pixels; none where it is None. ``balanced``: see
    `balanced_mean`."""

    clamp: LossClamp | None = None
    balanced: bool = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``logits``: (B, K, H, W). ``labels``: (B, H, W) int64, 255 for none. 0, with a gradient of 0, when all are 255."""
        known = labels != IGNORE
        if self.clamp is None and not self.balanced:
            total = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
            return total / mean_count(known)
        loss = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
        if self.clamp is not None:
            loss = torch.minimum(loss, self.clamp.ceiling(loss.detach(), known))
        return balanced_mean(loss, labels) if self.balanced else loss.sum() / mean_count(known)


PLAIN: Final = PixelLoss()
"""The cross entropy as it is."""


def loss_ceiling(loss: Tensor, known: Tensor, patch: int) -> Tensor:
    """For each pixel the mean loss of its patch, and at least that of the whole batch: (B, H, W), no gradient.

    ``loss``: (B, H, W), of which the pixels ``known``, bool, count. Patches are those of a grid from the upper left corner on,
    cut at the borders. WeakTr's code takes the mean over the batch first, so that all photos have one ceiling, and counts
    pixels without a label: give it that mean, and all pixels as known.
    """
    loss = loss.detach() * known
    sums, counts = (
        functional.avg_pool2d(values[:, None], patch, ceil_mode=True, divisor_override=1) for values in (loss, known.float())
    )
    means = (sums / counts.clamp_min(1)).maximum(mean_over_batch(loss, known))
    height, width = loss.shape[1:]
    return means[:, 0].repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)[:, :height, :width]


def mean_over_batch(loss: Tensor, known: Tensor) -> Tensor:
    """The mean of (B, H, W) over the known pixels of the whole batch, of all ranks; no gradient."""
    return world().average((loss.detach() * known).sum()) / mean_count(known)


def balanced_mean(loss: Tensor, labels: Tensor) -> Tensor:
    """Half the mean of (B, H, W) over background pixels and half that over all others with a label.

    A side that the whole batch has no pixel of adds 0 (WeCLIP's code divides by zero there).
    """
    background, foreground = labels == 0, (labels != 0) & (labels != IGNORE)
    return sum((loss * side).sum() / (2 * mean_count(side)) for side in (background, foreground))  # type: ignore[return-value]
