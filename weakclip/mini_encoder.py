"""The mini segmentation encoder: a small residual network in timm's own blocks.

Its first stages are also the stem of the mini CLIP.
"""

from __future__ import annotations

from typing import Final

from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import Tensor, nn

# A photo of 128 px leaves the stem at 32 x 32 cells: cheap, and logits at that size still draw the finest parts. Most of the
# width and depth is at strides 8 and 16, where a cell comes to see the whole object.
MINI_STEM: Final = (16, 32)
MINI_STAGES: Final = (
    ByoBlockCfg(type="basic", d=1, c=32, s=1),
    ByoBlockCfg(type="basic", d=2, c=80, s=2),
    ByoBlockCfg(type="basic", d=2, c=160, s=2),
)


class MiniEncoder(nn.Module):
    """A residual network of a million parameters in timm's own blocks, with maps at strides 1, 2, 4, 8 and 16.

    `forward`: (B, 3, H, W) -> [(B, channels, H / stride, W / stride)], the input itself first.
    """

    out_channels: Final = (3, MINI_STEM[0], *(stage.c for stage in MINI_STAGES))

    def __init__(self, output_stride: int = 16) -> None:
        super().__init__()
        config = ByoModelCfg(blocks=MINI_STAGES, stem_type="3x3", stem_pool="", stem_chs=MINI_STEM)
        self.model = ByobNet(config, num_classes=0, output_stride=output_stride)

    def forward(self, photos: Tensor) -> list[Tensor]:
        return [photos, *self.model.forward_intermediates(photos, intermediates_only=True)]


def strided_stem(encoder: MiniEncoder, channels: int) -> nn.Sequential:
    """The encoder up to stride 8 and a linear map of its cells: (B, 3, H, W) -> (B, channels, H / 8, W / 8)."""
    network = encoder.model
    return nn.Sequential(network.stem, network.stages[0], network.stages[1], nn.Conv2d(MINI_STAGES[1].c, channels, 1))
