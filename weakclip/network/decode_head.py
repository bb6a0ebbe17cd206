"""Semantic FPN head: every pyramid level, brought to the finest size and summed (Kirillov et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from weakclip.network.recomputed import recomputed

Size = tuple[int, int]
Climb = Callable[[Sequence[Size], int], list[Size]]
"""From the sizes of all levels, finest first, and the number of one: its size after each of its blocks."""


def batch_free_norm(channels: int) -> nn.Module:
    """A norm that does not depend on the batch."""
    return nn.GroupNorm(8, channels)


def level_by_level(sizes: Sequence[Size], level: int) -> list[Size]:
    """Up one level of the pyramid after each block, to that level's exact size; the finest level is there already."""
    return list(sizes[: max(1, level)][::-1])


class Level(nn.ModuleList):
    """The blocks of one pyramid level, each a 3x3 convolution, a norm and ReLU.

    `forward`: (B, D, h, w), the size to bring it to after each block -> the last size.
    """

    def __init__(self, channels: int, blocks: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm(channels), nn.ReLU(inplace=True))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        for convolve, size in zip(self, sizes, strict=True):
            x = resized(convolve(x), size)
        return x


def resized(x: Tensor, size: Size) -> Tensor:
    """Maps (B, C, h, w) at another size (height, width), bilinear."""
    return x if x.shape[2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class DecodeHead(nn.Module):
    """`forward`: neck levels [(B, D, h_i, w_i)], finest first -> logits (B, K, h_0, w_0) and the features
    (B, D, h_0, w_0) that they are made of, rectified and summed, so not negative.

    ``recompute``: whether each level is computed again in the backward pass; not for norms over the batch.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        dropout: float = 0.1,
        norm: Callable[[int], nn.Module] = batch_free_norm,
        climb: Climb = level_by_level,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(channels, max(1, level), norm) for level in range(4))
        self.climb = climb
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def forward(self, levels: Sequence[Tensor], recompute: bool = False) -> tuple[Tensor, Tensor]:
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        climbs = [self.climb(sizes, index) for index in range(len(levels))]
        raised = (
            resized(recomputed(convolve, level, climb) if recompute else convolve(level, climb), sizes[0])
            for convolve, level, climb in zip(self.levels, levels, climbs, strict=True)
        )
        features = 0 + next(raised)  # a copy, for the others are added in place, and its gradient needs it as it is
        for one in raised:
            features += one
        return self.classify(self.dropout(features)), features
