"""Pyramid adapter: token maps of the frozen transformer at one stride become a pyramid of four (WeakCLIP section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn
from torch.nn import functional

SCALES: Final = (4.0, 2.0, 1.0, 0.5)
"""Sizes of the levels relative to the token grid, finest first."""


def spread_over_levels(maps: Sequence[Tensor]) -> list[Tensor]:
    """One map per level: shallow blocks for fine levels, the last block repeated if there are fewer than four."""
    return [maps[min(level, len(maps) - 1)] for level in range(len(SCALES))]


class PyramidAdapter(nn.Module):
    """Learned up-sampling by transposed convolutions, and pooling for the coarsest level.

    `forward`: token maps [(B, C, h, w)] of ascending blocks -> [(B, D, s h, s w)] for s in `SCALES`.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.to_4x = raise_twice(width, channels, nn.GroupNorm(1, channels))
        self.to_2x = nn.Sequential(nn.GroupNorm(1, width), nn.ConvTranspose2d(width, channels, 2, stride=2))
        self.to_1x: nn.Module = nn.Sequential(nn.GroupNorm(1, width), nn.Conv2d(width, channels, 1))
        self.to_half = nn.Sequential(nn.GroupNorm(1, width), nn.Conv2d(width, channels, 1), nn.MaxPool2d(2, ceil_mode=True))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = (self.to_4x, self.to_2x, self.to_1x, self.to_half)
        return [level(tokens) for level, tokens in zip(levels, spread_over_levels(maps), strict=True)]


def raise_twice(width: int, channels: int, norm: nn.Module) -> nn.Sequential:
    """Twice the size, normalised, twice the size again: (B, C, h, w) -> (B, D, 4 h, 4 w)."""
    return nn.Sequential(
        nn.GroupNorm(1, width),
        nn.ConvTranspose2d(width, channels, 2, stride=2),
        norm,
        nn.GELU(),
        nn.ConvTranspose2d(channels, channels, 2, stride=2),
    )


class PlainPyramid(nn.Module):
    """The pyramid without the adapter: one linear map per level, then bilinear resizing. `forward`: as `PyramidAdapter`."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Sequential(nn.GroupNorm(1, width), nn.Conv2d(width, channels, 1)) for _ in SCALES)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = []
        for project, tokens, scale in zip(self.project, spread_over_levels(maps), SCALES, strict=True):
            height, width = tokens.shape[2:]
            size = (max(1, -int(-height * scale // 1)), max(1, -int(-width * scale // 1)))
            levels.append(functional.interpolate(project(tokens), size=size, mode="bilinear", align_corners=False))
        return levels
