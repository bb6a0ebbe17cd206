"""Feature pyramid neck over the levels with their score maps: torchvision's FPN, in lists instead of dictionaries."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


class Neck(nn.Module):
    """1x1 laterals, nearest top-down sums, 3x3 outputs. `forward`: [(B, C, h_i, w_i)] -> [(B, D, h_i, w_i)]."""

    def __init__(self, in_channels: int, channels: int, levels: int = 4) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork([in_channels] * levels, channels)

    @property
    def laterals(self) -> list[nn.Conv2d]:
        """The 1x1 convolutions, finest level first."""
        return [block[0] for block in self.fpn.inner_blocks]

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        named = {str(index): level for index, level in enumerate(levels)}
        return list(self.fpn(named).values())
