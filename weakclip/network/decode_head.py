"""Semantic FPN head: every pyramid level, brought to the finest size and summed (Kirillov et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


def block(channels: int) -> nn.Sequential:
    """3x3 convolution, a norm that does not depend on the batch, ReLU."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels), nn.ReLU())


class Level(nn.ModuleList):
    """The blocks of one pyramid level. `forward`: (B, D, h, w), the size to bring it to after each block -> the last size."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__(block(channels) for _ in range(blocks))

    def forward(self, x: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
        for convolve, size in zip(self, sizes, strict=True):
            x = convolve(x)
            if x.shape[2:] != size:
                x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return x


class DecodeHead(nn.Module):
    """`forward`: neck levels [(B, D, h_i, w_i)], finest first -> logits (B, K, h_0, w_0)."""

    def __init__(self, channels: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(channels, max(1, level)) for level in range(4))
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        sizes = [level.shape[2:] for level in levels]
        # Up one level of the pyramid after each block, to that level's exact size; the finest level is there already.
        ways = [sizes[: max(1, index)][::-1] for index in range(len(sizes))]
        raised = (convolve(level, way) for convolve, level, way in zip(self.levels, levels, ways, strict=True))
        logits: Tensor = self.classify(self.dropout(sum(raised)))
        return logits
