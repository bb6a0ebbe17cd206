"""DeepLabV3+ (Chen et al. 2018): encoder, atrous spatial pyramid pooling, decoder with the maps of stride 4.

The mini network goes one step further, to stride 2: in photos of 128 px, legs and masts are 2 to 4 px wide.
"""

from __future__ import annotations

from typing import Final

import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn
from torch.nn import functional

from weakclip.deeplab.encoders import MINI, build_encoder

# Atrous rates by output stride (Chen et al. 2018, section 4). The mini network's last maps are 8 or 16 cells a side.
RATES: Final = {16: (6, 12, 18), 8: (12, 24, 36)}
MINI_RATES: Final = {16: (1, 2, 3), 8: (2, 4, 6)}


class DeepLab(nn.Module):
    """A segmentation network that takes pixel values and knows how to normalise them.

    ``card``: what the weights are, filled when they are loaded. ``output_stride``: sides of the input must be multiples.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        encoder: nn.Module,
        decoder: nn.Module,
        classifier: nn.Module,
        output_stride: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = classifier
        self.output_stride = output_stride
        self.card: dict[str, object] = {}
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour, RGB 0..255: what lies outside a photo."""
        red, green, blue = self.mean.flatten().round().int().tolist()
        return red, green, blue

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) pixels 0..255, sides multiples of the output stride -> logits (B, K, H / 4, W / 4), mini: H / 2."""
        height, width = photos.shape[-2:]
        if height % self.output_stride or width % self.output_stride:
            raise ValueError(f"sides must be multiples of {self.output_stride}, got {height} x {width}")
        inputs = ((photos - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier(self.decoder(self.encoder(inputs)))
        return logits


class FineDecoder(nn.Module):
    """A DeepLabV3+ decoder and one more step, with the encoder's maps of stride 2; gives (B, channels, H / 2, W / 2)."""

    def __init__(self, coarse: nn.Module, *, coarse_channels: int, fine_channels: int, channels: int) -> None:
        super().__init__()
        self.coarse = coarse
        self.narrow = nn.Sequential(nn.Conv2d(coarse_channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.fuse = nn.Sequential(
            nn.Conv2d(channels + fine_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        fine = features[1]
        maps: Tensor = self.fuse(torch.cat([enlarge(self.narrow(self.coarse(features)), *fine.shape[-2:]), fine], dim=1))
        return maps


def enlarge(logits: Tensor, height: int, width: int) -> Tensor:
    """Maps (B, C, h, w) at (B, C, height, width), bilinear."""
    return functional.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)


def build_deeplab(*, network: str, encoder: str, encoder_weights: str, num_classes: int, output_stride: int) -> DeepLab:
    """A DeepLab whose decoder is fresh from torch's generator.

    ``network``: deeplabv3plus. ``encoder``, ``encoder_weights``: see `build_encoder`. ``num_classes``: K, with background.
    """
    if network != "deeplabv3plus":
        raise ValueError(f"expected the network deeplabv3plus, got {network!r}")
    if output_stride not in RATES:
        raise ValueError(f"expected an output stride of {' or '.join(map(str, RATES))}, got {output_stride}")
    body = build_encoder(encoder, encoder_weights, output_stride)
    mini = encoder == MINI
    channels = 64 if mini else 256
    decoder: nn.Module = DeepLabV3PlusDecoder(
        encoder_channels=body.channels,
        encoder_depth=len(body.channels) - 1,
        out_channels=channels,
        atrous_rates=(MINI_RATES if mini else RATES)[output_stride],
        output_stride=output_stride,
        aspp_separable=not mini,
        aspp_dropout=0.1 if mini else 0.5,
    )
    if mini:
        decoder = FineDecoder(decoder, coarse_channels=channels, fine_channels=body.channels[1], channels=16)
        channels = 16
    model = DeepLab(
        encoder=body.network,
        decoder=decoder,
        classifier=nn.Conv2d(channels, num_classes, 1),
        output_stride=output_stride,
        mean=body.mean,
        std=body.std,
    )
    # Channels last is the layout in which convolutions on a CPU, and in mixed precision on a GPU, are fastest.
    return model.to(memory_format=torch.channels_last)
