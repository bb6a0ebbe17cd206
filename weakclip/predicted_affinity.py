"""Affinity of tokens, predicted from the decoder's features, and the frozen attention that agrees with it.

After the refinement module of WeCLIP (Zhang et al., CVPR 2024) and its further development in ExCEL (CVPR 2025): a decoder
learns from the seeds which tokens are of one class; of CLIP's attention, layer by layer, what contradicts that is left out, and
the rest is weighted with it. Class-aware refinement with an attention is in `weakclip.cam.affinity`.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from weakclip.masks import IGNORE
from weakclip.ranks import world

SHARPNESS: Final = 3.0
"""Factor on the centred cosines of `cosine_affinity` (ExCEL)."""


def at_tokens(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps (B, C, s h, s w) averaged over each token of a grid (h, w): (B, C, h, w)."""
    return functional.adaptive_avg_pool2d(maps, (height, width))


def product_affinity(features: Tensor) -> Tensor:
    """Features (B, C, h, w) -> sigmoid of their dot products, (B, h w, h w), 0..1, as in WeCLIP.

    For features of either sign: of rectified ones, such as our decode head's, no product is negative and nothing below 1/2.
    """
    rows = features.flatten(2)
    return torch.sigmoid(rows.transpose(1, 2) @ rows)


def cosine_affinity(features: Tensor, *, over_batch: bool = False) -> Tensor:
    """Features (B, C, h, w) -> sigmoid of their cosines, centred and sharpened, (B, h w, h w), 0..1, as in ExCEL.

    ``over_batch``: centred by the mean over all images, as released; otherwise each by its own, so that an image's affinity
    does not depend on its company.
    """
    rows = functional.normalize(features.flatten(2), dim=1)
    cosines = rows.transpose(1, 2) @ rows
    mean = cosines.mean() if over_batch else cosines.mean(dim=(1, 2), keepdim=True)
    return torch.sigmoid(SHARPNESS * (cosines - mean))


def affinity_labels(labels: Tensor, radius: int) -> Tensor:
    """Labels (B, h, w) of tokens, 255 for none -> (B, h w, h w) int64: 1 for a pair of one class, 0 for two classes, 255 where
    either has none or their rows or columns are more than ``radius`` apart. Background is a class, a token its own pair."""
    height, width = labels.shape[1:]
    rows, columns = (torch.arange(side, device=labels.device) for side in (height, width))
    near = (_apart(rows) <= radius)[:, None, :, None] & (_apart(columns) <= radius)[None, :, None, :]
    flat = labels.flatten(1)
    same = (flat[:, :, None] == flat[:, None, :]).long()
    known = (flat != IGNORE)[:, :, None] & (flat != IGNORE)[:, None, :]
    return same.masked_fill(~(known & near.flatten(2).flatten(0, 1)), IGNORE)


def _apart(places: Tensor) -> Tensor:
    return (places[:, None] - places[None, :]).abs()


def affinity_loss(affinity: Tensor, labels: Tensor) -> Tensor:
    """Half of what is missing to 1 over pairs of one class, and half of what is above 0 over the others, each a mean over the
    batch with 1 added to the count. ``affinity``, ``labels``: (B, N, N), from `affinity_labels`."""
    same, other = (labels == 1).to(affinity.dtype), (labels == 0).to(affinity.dtype)
    missing = ((1 - affinity) * same).sum() / _mean_and_one(same.sum())
    superfluous = (affinity * other).sum() / _mean_and_one(other.sum())
    return (missing + superfluous) / 2


def _mean_and_one(count: Tensor) -> Tensor:
    """A rank's share of the count over the whole batch, with 1 added to that."""
    return world().average(count) + 1 / world().count


def guided_attention(attention: Tensor, affinity: Tensor) -> Tensor:
    """Mean of the layers that agree with the predicted affinity, weighted with it: (..., N, N).

    ``attention``: (L, ..., N, N) of tokens, class token left out; ``affinity``: (..., N, N). See `agreeing_layers`.
    """
    kept = agreeing_layers(attention, affinity)[..., None, None]
    return (attention * kept).sum(dim=0) / (kept.sum(dim=0) + 1e-5) * affinity


def agreeing_layers(attention: Tensor, affinity: Tensor) -> Tensor:
    """Which layers (L, ..., N, N) are kept: bool (L, ...). A layer differs by the sum of affinity minus attention, which is
    signed; kept are those that differ by no more than the mean."""
    difference = layer_differences(attention, affinity)
    return difference <= difference.mean(dim=0)


def layer_differences(attention: Tensor, affinity: Tensor) -> Tensor:
    """Sum over all pairs of affinity (..., N, N) minus each layer (L, ..., N, N): (L, ...)."""
    return (affinity - attention).sum(dim=(-2, -1))
