"""The score map: cosine similarity of every token and every class's text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def score_map(texts: Tensor, tokens: Tensor, height: int, width: int) -> Tensor:
    """Texts (B, T, E) and grid tokens (B, h w, E), any length -> cosines (B, T, h, w)."""
    similarity = functional.normalize(texts, dim=-1) @ functional.normalize(tokens, dim=-1).transpose(1, 2)
    cosines: Tensor = similarity.unflatten(-1, (height, width))
    return cosines


def merge_background(scores: Tensor, background: int) -> Tensor:
    """The first ``background`` channels of (B, T, h, w), one per background word, become one: the best of them."""
    return torch.cat([scores[:, :background].amax(dim=1, keepdim=True), scores[:, background:]], dim=1)


def append_scores(levels: Sequence[Tensor], scores: Tensor, align_corners: bool = False) -> list[Tensor]:
    """Each pyramid level (B, D, s h, s w) with the score map (B, K, h, w), resized to it, as further channels."""
    resized = (
        functional.interpolate(scores, size=level.shape[2:], mode="bilinear", align_corners=align_corners) for level in levels
    )
    return [torch.cat([level, map_], dim=1) for level, map_ in zip(levels, resized, strict=True)]
