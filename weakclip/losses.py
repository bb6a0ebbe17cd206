"""Losses of WeakCLIP: seeding, boundary and score map (WeakCLIP section 3.5; after SEC, Kolesnikov and Lampert 2016)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from weakclip.masks import IGNORE
from weakclip.pixel_loss import PLAIN, LossClamp, PixelLoss


def class_probabilities(logits: Tensor) -> Tensor:
    """Softmax of (B, K, h, w), lifted off zero and renormalised."""
    probabilities = logits.softmax(dim=1) + 1e-7
    return probabilities / probabilities.sum(dim=1, keepdim=True)


def cues(seed: Tensor, num_classes: int) -> Tensor:
    """One-hot view of a seed (B, h, w) int64 with 255 for unsure: (B, K, h, w) float, zero where unsure."""
    known = seed < num_classes
    one_hot = functional.one_hot(seed.where(known, torch.zeros_like(seed)), num_classes).permute(0, 3, 1, 2)
    return one_hot.float() * known[:, None]


def seeding_loss(probabilities: Tensor, cue: Tensor, clamp: LossClamp | None = None) -> Tensor:
    """Cross entropy on the cues, background and foreground weighted alike per image.

    ``probabilities``, ``cue``: (B, K, h, w). An image without background (or foreground) cues adds 0 for that part. ``clamp``:
    of single pixels.
    """
    log_likelihood = cue * probabilities.log()
    if clamp is not None:
        ceiling = clamp.ceiling(-log_likelihood.detach().sum(dim=1), cue.any(dim=1))
        log_likelihood = torch.maximum(log_likelihood, -ceiling[:, None])
    background = log_likelihood[:, 0].sum(dim=(1, 2)) / cue[:, 0].sum(dim=(1, 2)).clamp_min(1e-4)
    foreground = log_likelihood[:, 1:].sum(dim=(1, 2, 3)) / cue[:, 1:].sum(dim=(1, 2, 3)).clamp_min(1e-4)
    return -background.mean() - foreground.mean()


def boundary_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Divergence from what a dense CRF makes of the probabilities: mean over pixels of sum_k q log(q / p).

    ``probabilities`` p and ``target`` q (constant): (B, K, h, w). The ratio is kept within 0.05..20; no gradient flows
    where it is cut.
    """
    target = target.clamp_min(1e-4)
    target = target / target.sum(dim=1, keepdim=True)
    ratio = (target / probabilities).clamp(0.05, 20)
    return (target * ratio.log()).sum(dim=1).mean()


def score_map_loss(
    scores: Tensor, seed: Tensor, temperature: float, count_unsure: bool = False, pixel_loss: PixelLoss = PLAIN
) -> Tensor:
    """Cross entropy of the score map (B, K, h, w) of cosines on the seed (B, H, W) int64, unsure pixels left out.

    ``count_unsure``: unsure pixels add nothing to the sum, and yet count in the mean, which is over the whole batch; the plain
    cross entropy then, whatever ``pixel_loss``.
    """
    logits = functional.interpolate(scores / temperature, size=seed.shape[1:], mode="bilinear", align_corners=False)
    if count_unsure:
        return functional.cross_entropy(logits, seed, ignore_index=IGNORE, reduction="sum") / seed.numel()
    return pixel_loss(logits, seed)
