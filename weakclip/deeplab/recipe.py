"""How a segmentation network is trained: the settings, and what each network does its own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from weakclip.pixel_loss import LossClamp, PixelLoss

Pixels = NDArray[np.uint8 | np.float32]
"""Pixel values 0..255, (H, W, 3) RGB."""
Mask = NDArray[np.uint8]
Augment = Callable[[NDArray[np.uint8], Mask, np.random.Generator], tuple[Pixels, Mask]]
"""Photo (H, W, 3), its mask (H, W) and a source of random numbers -> a crop of both."""


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """What makes a DeepLab what it is. See `params.yaml`, section deeplab, for the meaning and the paper's values."""

    network: str
    encoder: str
    encoder_weights: str
    output_stride: int
    iterations: int
    batch_size: int
    lr: float
    encoder_lr_factor: float
    weight_decay: float
    crop_size: int
    scale: tuple[float, float]
    colour: float
    validate_every: int
    checkpoint_every: int
    layer_decay: float = 1.0
    ema: float = 0.0
    loss_clamp_patch: int = 0
    loss_clamp_start: float = 0.0
    balanced_loss: bool = False
    precision: str = "float32"

    def pixel_loss(self, stride: int) -> PixelLoss:
        """The loss, on one row and one column of pixels in ``stride``."""
        clamp = LossClamp(max(1, self.loss_clamp_patch // stride), self.loss_clamp_start) if self.loss_clamp_patch else None
        return PixelLoss(clamp, self.balanced_loss)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What differs between networks in their training.

    ``rates_of_step``: step, counted from 0 -> a learning rate per parameter group of ``optimizer``. ``set_training``: called
    before each step; puts the modules into the mode they train in. ``loss_stride``: of rows and of columns of pixels, one in
    so many is looked at by the loss.
    """

    optimizer: torch.optim.Optimizer
    rates_of_step: Callable[[int], Sequence[float]]
    set_training: Callable[[int], None]
    augment: Augment
    loss_stride: int
