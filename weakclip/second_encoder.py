"""A second frozen image encoder beside CLIP, for the decoder alone: its tokens know shapes and parts that CLIP's do not.

WeCLIP+ (Zhang et al. 2025) adds DINOv2 so. Photos are resized for it such that its patches fall on CLIP's, so no token is
resampled. In the mini world the project's own segmentation encoder stands in for it: a convolutional network, trained on
generated images with tags only, whose last map counts as tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional

from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import SHIPPED, hash_tensors
from weakclip.device import arithmetic, from_host
from weakclip.errors import WeakClipError
from weakclip.features.blocks import SECOND
from weakclip.mini_encoder import MiniEncoder
from weakclip.timm_vit import (
    RGB,
    VisionTransformer,
    build_vision_transformer,
    load_vision_transformer,
    mean_and_deviation,
)
from weakclip.weights import load_into, load_weights

NONE: Final = "none"
MINI: Final = "mini"
MINI_PATCH: Final = 8
NAME: Final = "features.second_encoder"
WEIGHTS: Final = "features.second_weights"


class SecondEncoder(nn.Module):
    """A frozen network: images (B, 3, H, W) RGB, 0..255, and a grid (h, w) -> tokens (B, h w, width) float32.

    ``described``: what it is, as JSON can hold it: name, weights, weights_hash, width.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, name: str, weights: str, patch: int, width: int, mean: RGB, std: RGB) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.patch = patch
        digest = hash_tensors(network.state_dict())
        self.described: dict[str, Any] = {"name": name, "weights": weights, "weights_hash": digest, "width": width}
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def width(self) -> int:
        """Channels of a token."""
        return int(self.described["width"])

    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        pixels = from_host(images, self.mean.device).float()
        size = (grid[0] * self.patch, grid[1] * self.patch)
        if pixels.shape[2:] != size:
            pixels = functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
        pixels = (pixels - self.mean) / self.std
        if isinstance(self.network, VisionTransformer):
            maps: Tensor = self.network(pixels, [self.network.depth - 1])[-1]
        else:
            maps = self.network(pixels)[-1]
        return maps.flatten(2).transpose(1, 2).float()


class EncoderPair(nn.Module):
    """CLIP's image encoder and a second one: what `ImageEncoder` gives, and behind it the second one's tokens.

    These have CLIP's form, (B, 1 + h w, width): in place of a class token their mean. Their block has the number `SECOND`.
    """

    def __init__(self, clip: ImageEncoder, second: SecondEncoder) -> None:
        super().__init__()
        self.clip, self.second = clip, second
        self.patch, self.width, self.precision = clip.patch, clip.width, clip.precision
        self.blocks = (*clip.blocks, SECOND)
        self.attributes = {**clip.attributes, "second": second.described, "timm": timm.__version__}

    @property
    def mean(self) -> Tensor:
        """The mean colour that CLIP expects, (3, 1, 1), 0..255."""
        return self.clip.mean

    def release(self) -> None:
        """As that of `ImageEncoder`, of both."""
        self.clip.release()
        self.second.network = nn.Identity()

    @property
    def depth(self) -> int:
        """How many blocks CLIP's encoder has."""
        return self.clip.depth

    def forward(self, images: Tensor) -> list[Tensor]:
        tokens: list[Tensor] = self.clip(images)
        return [*tokens, self._others(images)]

    def with_attention(self, images: Tensor, count: int) -> tuple[list[Tensor], Tensor]:
        """What `forward` gives, and the attention of CLIP's last ``count`` blocks, see `ImageEncoder.with_attention`."""
        tokens, attention = self.clip.with_attention(images, count)
        return [*tokens, self._others(images)], attention

    def _others(self, images: Tensor) -> Tensor:
        grid = images.shape[2] // self.patch, images.shape[3] // self.patch
        seen = images[:, :, : grid[0] * self.patch, : grid[1] * self.patch]
        with arithmetic(self.precision):
            others = self.second(seen, grid).float()
        return torch.cat([others.mean(dim=1, keepdim=True), others], dim=1)


def load_second_encoder(name: str, weights: str) -> SecondEncoder | None:
    """The encoder of that name (a vision transformer of timm, ``mini``, or ``none``), frozen.

    ``weights``: ``mini``, ``timm`` (its pretrained ones), ``none`` (random ones, for forecasts), or a file.

    Raises:
        WeakClipError: there is no such encoder, or its weights cannot be read.
    """
    if name == NONE:
        return None
    if name == MINI:
        network: nn.Module = MiniEncoder(output_stride=MINI_PATCH)
        if weights != NONE:
            load_into(network, load_weights(SHIPPED, "mini_encoder")[0], "the mini segmentation encoder")
        mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        width = MiniEncoder.out_channels[-1]
        return SecondEncoder(network, name=name, weights=weights, patch=MINI_PATCH, width=width, mean=mean, std=std)
    transformer = build_vision_transformer(name, pretrained=weights == "timm", parameter=NAME, weights_parameter=WEIGHTS)
    if weights not in ("timm", NONE):
        load_vision_transformer(transformer, Path(weights), WEIGHTS)
    mean, std = mean_and_deviation(name)
    return SecondEncoder(
        transformer, name=name, weights=weights, patch=transformer.patch, width=transformer.width, mean=mean, std=std
    )


def load_same_second_encoder(described: Mapping[str, Any] | None, used_for: str) -> SecondEncoder | None:
    """The second encoder that something was made with, None where there was none; other weights are refused."""
    if described is None:
        return None
    second = load_second_encoder(str(described["name"]), str(described["weights"]))
    if second is None or second.described["weights_hash"] != described["weights_hash"]:
        raise WeakClipError(
            f"{used_for} was made with other weights of {described['name']} than {described['weights']} holds now",
            "restore the weights it was made with, or make it anew: `dvc repro -f -s cache_features`, then `dvc repro`",
        )
    return second


def paired(encoder: ImageEncoder, second: SecondEncoder | None) -> ImageEncoder | EncoderPair:
    """CLIP's encoder alone, or with the second one."""
    return encoder if second is None else EncoderPair(encoder, second)
