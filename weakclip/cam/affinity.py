"""Class-aware attention affinity: what a class's map says of a patch is passed on to the patches that attend to it.

CLIP's attention knows which patches belong together, but not to what. So it becomes a matrix of affinities between patches, by
which maps are spread, and for each class only patches in boxes around its strong regions are spread from (CLIP-ES, Lin et al.
2023, section 3.4; linyq2117/CLIP-ES). ExCEL and WeCLIP do the same with other numbers of blocks and box thresholds.

Published: the mean of the last 8 blocks (CLIP-ES) or 6 (ExCEL, WeCLIP), box threshold 0.4 for VOC and 0.7 for COCO (CLIP-ES),
0.75 to 0.88 (ExCEL). Cost: one product of n x n matrices an image, 2 GFLOP for 1,024 patches, shared by its classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakclip.regions import regions

ROUNDS = 3
"""Of balancing, as published. Attention is nearly balanced after the first one; strongly peaked attention is not."""


def balance(attention: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Attention (..., n, n) made nearly doubly stochastic: columns, then rows divided by their sums, some ``rounds`` of it
    (Sinkhorn). Rows sum to 1 in the end."""
    for _ in range(rounds):
        attention = attention / attention.sum(dim=-2, keepdim=True)
        attention = attention / attention.sum(dim=-1, keepdim=True)
    return attention


def affinity(attention: Tensor) -> Tensor:
    """Affinity between patches (..., n, n) from attention among them (..., n, n): balanced, symmetric, two steps of it."""
    balanced = balance(attention)
    symmetric = (balanced + balanced.transpose(-1, -2)) / 2
    return symmetric @ symmetric


def box_mask(activation: NDArray[np.floating], threshold: float, *, limit_ends: bool = False) -> NDArray[np.bool_]:
    """The boxes around the regions of a map (h, w), 0..1, that reach above ``threshold`` times its highest value: (h, w) bool.

    Regions touch at corners. Levels are whole numbers up to 255, as published. ``limit_ends``: the released code cuts boxes
    off before the last row and column, so that nothing there is ever in one; the repaired path keeps them.
    """
    levels = (activation * 255).astype(np.uint8)
    height, width = levels.shape
    last = (height - 1, width - 1) if limit_ends else (height, width)
    mask = np.zeros((height, width), np.bool_)
    for region in regions((levels > int(threshold * levels.max())).astype(np.uint8)):
        bottom, right = region.top + region.pixels.shape[0], region.left + region.pixels.shape[1]
        mask[region.top : min(bottom, last[0]), region.left : min(right, last[1])] = True
    return mask


def spread(maps: Tensor, affinities: Tensor, threshold: float, *, limit_ends: bool = False) -> Tensor:
    """Maps (c, h, w), 0..1, spread by the affinities (h w, h w) from the boxes of each map: (c, h, w), not normalised.

    A map that is zero everywhere stays so.
    """
    boxes = [box_mask(activation, threshold, limit_ends=limit_ends) for activation in maps.cpu().numpy()]
    inside = torch.from_numpy(np.stack(boxes)).to(maps) if boxes else maps
    return ((maps * inside).flatten(1) @ affinities.T).view_as(maps)


def stretch(maps: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Each map (c, h, w) from its lowest to its highest value: 0..1."""
    lifted = maps - maps.flatten(1).amin(dim=1)[:, None, None]
    return lifted / (epsilon + lifted.flatten(1).amax(dim=1)[:, None, None])
