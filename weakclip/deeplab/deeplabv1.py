"""DeepLabV1 with ResNet38: the network that the released code of WeakCLIP retrains, and how that code trains and tests it.

Two convolutions with a large field of view on an encoder of stride 8. Names of parameters are those of the released checkpoints
(Yingyue-L/deeplabv1-resnet38).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from weakclip.deeplab.network import DeepLab, Views
from weakclip.deeplab.recipe import Recipe, Retraining
from weakclip.deeplab.released_augmentation import ReleasedAugmentation, augment
from weakclip.deeplab.resnet38 import CHANNELS, MOMENTUM, STRIDE, ResNet38, load_resnet38
from weakclip.resampling import resize_cubic
from weakclip.training import polynomial_schedule

ENCODER: Final = "resnet38"
WIDTH: Final = 512
FIELD_OF_VIEW: Final = 12  # dilation of the convolution on the encoder
SGD_MOMENTUM: Final = 0.9
BIAS_FACTOR: Final = 2.0  # of the learning rate
SHIFT_OF_COLOUR: Final = 100  # colour 0.1 is the released shift of up to 10 levels


class DeepLabV1(DeepLab):
    """Encoder, two convolutions, classifier: (B, 3, H, W) pixels 0..255 -> logits (B, K, H / 8, W / 8), rounded up."""

    def __init__(self, num_classes: int) -> None:
        views = Views(resize=_resize, align_corners=True, fuse_logits=True)
        super().__init__(multiple=1, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, views=views)
        self.backbone = ResNet38()
        self.conv_fov = nn.Conv2d(CHANNELS, WIDTH, 3, padding=FIELD_OF_VIEW, dilation=FIELD_OF_VIEW, bias=False)
        self.bn_fov = nn.BatchNorm2d(WIDTH, momentum=MOMENTUM)
        self.conv_fov2 = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        self.bn_fov2 = nn.BatchNorm2d(WIDTH, momentum=MOMENTUM)
        self.dropout = nn.Dropout(0.5)
        self.cls_conv = nn.Conv2d(WIDTH, num_classes, 1)
        for convolution in (self.conv_fov, self.conv_fov2, self.cls_conv):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):  # as released: statistics follow the batches, scales and shifts stay
                module.requires_grad_(False)

    def forward(self, photos: Tensor) -> Tensor:
        maps = self.bn_fov(self.conv_fov(self.backbone(self.normalised(photos)))).relu()
        maps = self.bn_fov2(self.conv_fov2(maps)).relu()
        logits: Tensor = self.cls_conv(self.dropout(maps))
        return logits

    def recipe(self, settings: Retraining, photos: int) -> Recipe:
        """SGD in four groups under a polynomial schedule; batch statistics in all norms, whatever the batch.

        The first convolution stops learning after the first pass over the photos, when the released training first validates.
        """
        encoder = settings.encoder_lr_factor
        factors = (encoder, BIAS_FACTOR * encoder, 1.0, BIAS_FACTOR)
        first_pass = photos // settings.batch_size
        augmentation = ReleasedAugmentation(
            crop_size=settings.crop_size,
            scale=settings.scale,
            shift=round(SHIFT_OF_COLOUR * settings.colour),
            fill=self.mean.flatten().tolist(),
        )

        def rates(step: int) -> list[float]:
            rate = polynomial_schedule(step, lr=settings.lr, iterations=settings.iterations + 1)
            return [rate * factor for factor in factors]

        def set_training(step: int) -> None:
            self.train()
            self.backbone.conv1a.requires_grad_(step < first_pass)

        return Recipe(
            optimizer=torch.optim.SGD(parameter_groups(self, settings.weight_decay), lr=settings.lr, momentum=SGD_MOMENTUM),
            rates_of_step=rates,
            set_training=set_training,
            augment=lambda photo, mask, draw: augment(photo, mask, augmentation, draw),
            loss_stride=1,
        )


def build(*, encoder: str, encoder_weights: str, num_classes: int, output_stride: int) -> DeepLabV1:
    """A network whose head is fresh from torch's generator.

    ``encoder``: resnet38, of output stride 8. ``encoder_weights``: ``none``, or a file that `load_resnet38` reads.
    """
    if (encoder, output_stride) != (ENCODER, STRIDE):
        raise ValueError(f"expected the encoder {ENCODER} of output stride {STRIDE}, got {encoder!r} of {output_stride}")
    model = DeepLabV1(num_classes)
    if encoder_weights != "none":
        load_resnet38(model.backbone, Path(encoder_weights))
    return model.to(memory_format=torch.channels_last)


def parameter_groups(model: DeepLabV1, weight_decay: float) -> list[dict[str, object]]:
    """Convolutions only: weights and biases of the encoder (it has none), then those of the head.

    Weights decay. Whether the classifier's bias does is not known of the released code; here it does not.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    head = [model.conv_fov, model.conv_fov2, model.cls_conv]
    encoder = [convolution for convolution in convolutions if convolution not in head]
    return [
        {"params": parameters, "weight_decay": decay}
        for part in (encoder, head)
        for parameters, decay in (
            ([convolution.weight for convolution in part], weight_decay),
            ([convolution.bias for convolution in part if convolution.bias is not None], 0.0),
        )
    ]


def _resize(photo: NDArray[np.uint8], height: int, width: int, zoom: float) -> NDArray[np.float32]:
    return resize_cubic(photo, height, width, zoom)
