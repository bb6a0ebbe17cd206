"""DeepLabV3+ (Chen et al. 2018): encoder, atrous spatial pyramid pooling, decoder with the maps of stride 4.

The mini network goes one step further, to stride 2: in photos of 128 px, legs and masts are 2 to 4 px wide.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        head: nn.Module,
        output_stride: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = head
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
        features = self.encoder(inputs)
        logits: Tensor = self.head(self.decoder(features), features)
        return logits


class CoarseHead(nn.Module):
    """A linear classifier on the decoder's maps: (B, channels, h, w) -> logits (B, K, h, w)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, decoded: Tensor, features: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(decoded)
        return logits


class FineHead(nn.Module):
    """A linear classifier whose enlarged logits are corrected by what the encoder saw at stride 2.

    Gives (B, K, H / 2, W / 2). The correction starts at zero, so training begins with a plain DeepLabV3+.
    """

    def __init__(self, channels: int, fine_channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.coarse = nn.Conv2d(channels, num_classes + width, 1)
        self.fuse = nn.Sequential(
            nn.Conv2d(width + fine_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.correction = nn.Conv2d(width, num_classes, 1)
        for parameter in self.correction.parameters():
            nn.init.zeros_(parameter)

    def forward(self, decoded: Tensor, features: Sequence[Tensor]) -> Tensor:
        fine = features[1]
        coarse = enlarge(self.coarse(decoded), *fine.shape[-2:])
        logits, context = coarse[:, : self.num_classes], coarse[:, self.num_classes :]
        corrected: Tensor = logits + self.correction(self.fuse(torch.cat([context, fine], dim=1)))
        return corrected


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
    decoder = DeepLabV3PlusDecoder(
        encoder_channels=body.channels,
        encoder_depth=len(body.channels) - 1,
        out_channels=channels,
        atrous_rates=(MINI_RATES if mini else RATES)[output_stride],
        output_stride=output_stride,
        aspp_separable=not mini,
        aspp_dropout=0.1 if mini else 0.5,
    )
    head = FineHead(channels, body.channels[1], num_classes, width=16) if mini else CoarseHead(channels, num_classes)
    model = DeepLab(
        encoder=body.network,
        decoder=decoder,
        head=head,
        output_stride=output_stride,
        mean=body.mean,
        std=body.std,
    )
    # Channels last is the layout in which convolutions on a CPU, and in mixed precision on a GPU, are fastest.
    return model.to(memory_format=torch.channels_last)
