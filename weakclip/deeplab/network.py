"""What all segmentation networks have in common: pixels in, logits out, and how the views of a photo become one result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from weakclip.deeplab.recipe import Recipe, Retraining

RGB = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Views:
    """How a network looks at a photo in several sizes, and what of it is averaged.

    ``resize``: photo (H, W, 3) uint8, height, width, zoom -> pixel values (height, width, 3) uint8 or float32.
    ``align_corners``: whether the outermost cells of enlarged maps lie on the outermost pixels. ``fuse_logits``: logits are
    averaged and the softmax taken of their mean; otherwise probabilities are averaged.
    """

    resize: Callable[[NDArray[np.uint8], int, int, float], NDArray[np.uint8] | NDArray[np.float32]]
    align_corners: bool
    fuse_logits: bool


class DeepLab(nn.Module, ABC):
    """A segmentation network that takes pixel values and knows how to normalise them.

    ``multiple``: sides of the input must be multiples of it. ``card``: what the weights are, filled when they are loaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, multiple: int, mean: RGB, std: RGB, views: Views) -> None:
        super().__init__()
        self.multiple = multiple
        self.views = views
        self.card: dict[str, object] = {}
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)

    @abstractmethod
    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) pixels 0..255 -> logits (B, K, h, w), smaller than the photos or as large."""

    @abstractmethod
    def recipe(self, settings: Retraining, photos: int) -> Recipe:
        """How it is trained on so many photos."""

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour, RGB 0..255: what lies outside a photo."""
        red, green, blue = self.mean.flatten().round().int().tolist()
        return red, green, blue

    def normalised(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) pixels 0..255 to the network's own units; refuses sides that are no multiples."""
        height, width = photos.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"sides must be multiples of {self.multiple}, got {height} x {width}")
        return ((photos - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def enlarge(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Maps (B, C, h, w) at (B, C, height, width), bilinear."""
        if maps.shape[-2:] == (height, width):
            return maps
        return functional.interpolate(maps, size=(height, width), mode="bilinear", align_corners=self.views.align_corners)
