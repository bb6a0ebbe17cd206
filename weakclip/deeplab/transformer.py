"""A vision transformer under the decoder of DeepLabV3+: the maps of two of its blocks, and a pyramid that makes the finer one.

All maps of a plain transformer are of one size. The decoder's fine map is made by transposed convolutions, as in the simple
feature pyramid of ViTDet (Li et al. 2022), here from the tokens of the middle block, which still know edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn

from weakclip.errors import WeakClipError
from weakclip.timm_vit import VisionTransformer


class TransformerEncoder(nn.Module):
    """Photos (B, 3, H, W) to the photos and the maps of the middle and of the last block, both of H / patch x W / patch."""

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.network = network
        self.blocks = (network.depth // 2 - 1 if network.depth > 1 else 0, network.depth - 1)

    def forward(self, photos: Tensor) -> list[Tensor]:
        maps = self.network(photos, sorted({*self.blocks}))
        return [photos, maps[0], maps[-1]]


class TransformerDecoder(nn.Module):
    """DeepLabV3+ on maps of two blocks: (B, width, h, w) -> (B, channels, 4 h, 4 w), for patches of 8 px twice the size."""

    def __init__(self, width: int, channels: int, output_stride: int, rates: Sequence[int]) -> None:
        super().__init__()
        doublings = {16: 2, 8: 1}[output_stride]
        widths = [width // 2**step for step in range(doublings + 1)]
        steps = [
            layer for wide, narrow in pairwise(widths) for layer in (nn.ConvTranspose2d(wide, narrow, 2, stride=2), nn.GELU())
        ]
        self.middle_norm = MapNorm(width)
        self.last_norm = MapNorm(width)
        self.enlarge = nn.Sequential(*steps[:-1])
        self.decoder = DeepLabV3PlusDecoder(
            encoder_channels=(3, 0, widths[-1], 0, 0, width),
            encoder_depth=5,
            out_channels=channels,
            atrous_rates=rates,
            output_stride=16 if doublings == 2 else 8,
            aspp_separable=True,
            aspp_dropout=0.5,
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        photos, middle, last = features
        fine = self.enlarge(self.middle_norm(middle))
        decoded: Tensor = self.decoder([photos, photos, fine, self.last_norm(last)])
        return decoded


class MapNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w)."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


def check_stride(name: str, patch: int, output_stride: int) -> None:
    """Raises `WeakClipError` where the output stride is not the one of two that is nearest to the patch."""
    fitting = 8 if patch <= 8 else 16
    if output_stride != fitting:
        problem = f"deeplab.output_stride {output_stride} does not fit {name!r}, whose patches have {patch} px"
        raise WeakClipError(problem, f"set deeplab.output_stride to {fitting}, the nearer of 8 and 16")
