"""DeepLabV3+ (Chen et al. 2018): encoder, atrous spatial pyramid pooling, decoder with the maps of stride 4.

The mini network goes one step further, to stride 2: in photos of 128 px, legs and masts are 2 to 4 px wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn

from weakclip.deeplab.augmentation import Augmentation, augment
from weakclip.deeplab.encoders import MINI, Encoder, build_encoder
from weakclip.deeplab.layers import layer_factors, layers_of, split
from weakclip.deeplab.network import RGB, DeepLab, Views
from weakclip.deeplab.recipe import Recipe, Retraining
from weakclip.deeplab.transformer import TransformerDecoder, TransformerEncoder
from weakclip.images import resize_photo
from weakclip.training import polynomial_schedule

# Atrous rates by output stride (Chen et al. 2018, section 4). The mini network's last maps are 8 or 16 cells a side.
RATES: Final = {16: (6, 12, 18), 8: (12, 24, 36)}
MINI_RATES: Final = {16: (1, 2, 3), 8: (2, 4, 6)}
WARMUP: Final = 20  # steps over which the rate rises
SMALL_BATCH: Final = 8  # below it, batch statistics are too noisy to replace those of a pretrained encoder
LOSS_STRIDE: Final = 2  # the logits have stride 4, so the pixels between say little more


class DeepLabV3Plus(DeepLab):
    """Encoder, decoder and head: (B, 3, H, W) pixels 0..255 -> logits (B, K, H / 4, W / 4), mini: H / 2."""

    def __init__(self, *, encoder: nn.Module, decoder: nn.Module, head: nn.Module, multiple: int, mean: RGB, std: RGB) -> None:
        views = Views(resize=_resize, align_corners=False, fuse_logits=False)
        super().__init__(multiple=multiple, mean=mean, std=std, views=views)
        self.encoder = encoder
        self.decoder = decoder
        self.head = head

    def forward(self, photos: Tensor) -> Tensor:
        features = self.encoder(self.normalised(photos))
        logits: Tensor = self.head(self.decoder(features), features)
        return logits

    def recipe(self, settings: Retraining, photos: int) -> Recipe:
        """AdamW under a polynomial schedule with warm-up; the number of photos does not matter."""
        outer, *layers = parts(self, settings)
        groups = [group for part in (outer, *layers) for group in split(part, settings.weight_decay)]
        of_layers = [settings.encoder_lr_factor * factor for factor in layer_factors(len(layers), settings.layer_decay)]
        factors = [factor for factor in (1.0, *of_layers) for _ in range(2)]  # matrices and vectors of each part
        augmentation = Augmentation(crop_size=settings.crop_size, scale=settings.scale, colour=settings.colour, fill=self.fill)

        def rates(step: int) -> list[float]:
            rate = min(1.0, (step + 1) / WARMUP) * polynomial_schedule(step, lr=settings.lr, iterations=settings.iterations)
            return [rate * factor for factor in factors]

        return Recipe(
            optimizer=torch.optim.AdamW(groups, lr=settings.lr, fused=True),
            rates_of_step=rates,
            set_training=lambda step: set_training(self, settings.batch_size, settings.encoder_weights != "none"),
            augment=lambda photo, mask, draw: augment(photo, mask, augmentation, draw),
            loss_stride=LOSS_STRIDE,
        )


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
        coarse = nn.functional.interpolate(self.coarse(decoded), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        logits, context = coarse[:, : self.num_classes], coarse[:, self.num_classes :]
        corrected: Tensor = logits + self.correction(self.fuse(torch.cat([context, fine], dim=1)))
        return corrected


def build(*, encoder: str, encoder_weights: str, num_classes: int, output_stride: int) -> DeepLabV3Plus:
    """A network whose decoder is fresh from torch's generator. ``encoder``, ``encoder_weights``: see `build_encoder`."""
    if output_stride not in RATES:
        raise ValueError(f"expected an output stride of {' or '.join(map(str, RATES))}, got {output_stride}")
    body = build_encoder(encoder, encoder_weights, output_stride)
    mini = encoder == MINI
    channels = 64 if mini else 256
    model = DeepLabV3Plus(
        encoder=body.network,
        decoder=_decoder(body, channels, output_stride, mini=mini),
        head=FineHead(channels, body.channels[1], num_classes, width=16) if mini else CoarseHead(channels, num_classes),
        multiple=body.multiple,
        mean=body.mean,
        std=body.std,
    )
    # Channels last is the layout in which convolutions on a CPU, and in mixed precision on a GPU, are fastest.
    return model.to(memory_format=torch.channels_last)


def _decoder(body: Encoder, channels: int, output_stride: int, *, mini: bool) -> nn.Module:
    if isinstance(body.network, TransformerEncoder):
        return TransformerDecoder(body.channels[-1], channels, output_stride, RATES[output_stride])
    decoder: nn.Module = DeepLabV3PlusDecoder(
        encoder_channels=body.channels,
        encoder_depth=len(body.channels) - 1,
        out_channels=channels,
        atrous_rates=(MINI_RATES if mini else RATES)[output_stride],
        output_stride=output_stride,
        aspp_separable=not mini,
        aspp_dropout=0.1 if mini else 0.5,
    )
    return decoder


def parts(model: DeepLabV3Plus, settings: Retraining) -> list[list[nn.Parameter]]:
    """Parameters of decoder and head, then those of the encoder by layer; as a single layer where all learn at one rate."""
    inner = list(model.encoder.parameters())
    known = {id(parameter) for parameter in inner}
    outer = [parameter for parameter in model.parameters() if id(parameter) not in known]
    layers = [inner] if settings.layer_decay == 1 else layers_of(model.encoder, settings.encoder)
    return [outer, *layers]


def set_training(model: DeepLabV3Plus, batch_size: int, pretrained: bool) -> None:
    """Training mode, with batch norms that suit the batch.

    In small batches a pretrained encoder keeps its statistics. In a batch of one, the norm behind global pooling has a single
    value per channel and nothing to divide by, so it keeps its own as well.
    """
    model.train()
    if pretrained and batch_size < SMALL_BATCH:
        _freeze_statistics(model.encoder)
    if batch_size == 1:
        for module in model.decoder.modules():
            if any(isinstance(child, nn.AdaptiveAvgPool2d) for child in module.children()):
                _freeze_statistics(module)


def _freeze_statistics(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def _resize(photo: NDArray[np.uint8], height: int, width: int, zoom: float) -> NDArray[np.uint8]:
    return resize_photo(photo, height, width)
