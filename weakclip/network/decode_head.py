"""Semantic FPN head: every pyramid level, brought to the finest size and summed (Kirillov et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


def block(channels: int) -> nn.Sequential:
    """3x3 convolution, a norm that does not depend on the batch, ReLU."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels), nn.ReLU())


class DecodeHead(nn.Module):
    """`forward`: neck levels [(B, D, h_i, w_i)], finest first -> logits (B, K, h_0, w_0)."""

    def __init__(self, channels: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.ModuleList(block(channels) for _ in range(max(1, level))) for level in range(4))
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        sizes = [level.shape[2:] for level in levels]
        total = self.levels[0][0](levels[0])
        for index, (blocks, level) in enumerate(zip(self.levels, levels, strict=True)):
            if index == 0:
                continue
            for step, convolve in enumerate(blocks):
                # Up one level of the pyramid after each block, to that level's exact size.
                level = functional.interpolate(
                    convolve(level), size=sizes[index - step - 1], mode="bilinear", align_corners=False
                )
            total = total + level
        logits: Tensor = self.classify(self.dropout(total))
        return logits
