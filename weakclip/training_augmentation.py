"""The released training augmentation of WeakCLIP: zoom, crop, mirror, colours and padding.

Each step is a function of what was drawn for it; `draw_crop` and `distort_colours` ask for their numbers in the order in which
the released code does. Photos are RGB, as everywhere here; that code works on BGR, which makes no difference to any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from weakclip.hsv import HUES, hsv_of_rgb, rgb_of_hsv
from weakclip.inference import fitted_size
from weakclip.masks import IGNORE
from weakclip.resampling import resize_nearest, resize_without_antialias

Photo = NDArray[np.uint8]
Mask = NDArray[np.uint8]
BRIGHTNESS: Final = 32.0  # largest shift, levels
FACTORS: Final = (0.5, 1.5)  # of contrast and of saturation
HUE: Final = 18  # largest shift, in the 180 steps of a hue
TRIES: Final = 10  # crops that are drawn before one is taken as it is
LARGEST_SHARE: Final = 0.75  # of the counted pixels that a single class may have in a crop


class Source(Protocol):
    """Where random numbers come from; `numpy.random.Generator` through `Drawn`, or a script in a test."""

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high - 1."""

    def uniform(self, low: float, high: float) -> float:
        """A number from low to high."""


@dataclass(frozen=True)
class Drawn:
    """Random numbers of a generator."""

    generator: np.random.Generator

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to below ``high``."""
        return int(self.generator.integers(low, high))

    def uniform(self, low: float, high: float) -> float:
        """A number from ``low`` to below ``high``."""
        return float(self.generator.uniform(low, high))


@dataclass(frozen=True)
class Crop:
    """Upper left corner of a crop in a photo, pixels."""

    top: int
    left: int


@dataclass(frozen=True, kw_only=True)
class TrainingAugmentation:
    """``base_size``: long and short side that a photo is fitted into at zoom 1, pixels. ``scale``: smallest and largest zoom.

    ``crop_size``: side of the result, pixels. ``fill``: RGB 0..255 of what lies outside the photo. Released: (2048, 512),
    (0.5, 2.0), 512 and the mean of ImageNet's photos.
    """

    base_size: tuple[int, int]
    scale: tuple[float, float]
    crop_size: int
    fill: Sequence[float]


def augment(photo: Photo, mask: Mask, augmentation: TrainingAugmentation, draw: Source) -> tuple[NDArray[np.float32], Mask]:
    """A random view of a photo (H, W, 3) and its seed (H, W): pixel values (S, S, 3) 0..255 and labels (S, S)."""
    zoom = draw.uniform(*augmentation.scale)
    long_side, short_side = augmentation.base_size
    sides = fitted_size(*mask.shape, long_side=long_side * zoom, short_side=short_side * zoom)
    photo, mask = resize_without_antialias(photo, *sides), resize_nearest(mask, *sides)
    window = (augmentation.crop_size, augmentation.crop_size)
    crop = draw_crop(mask, window, draw)
    photo, mask = cropped(photo, crop, window), cropped(mask, crop, window)
    if draw.uniform(0, 1) < 0.5:
        photo, mask = photo[:, ::-1], mask[:, ::-1]
    return padded(distort_colours(photo, draw), mask, window, augmentation.fill)


def distort_colours(photo: Photo, draw: Source) -> Photo:
    """Brightness, contrast, saturation and hue, each changed half the time; (H, W, 3) uint8 to the same.

    Contrast comes second or, half the time, last. After each change the levels are cut to whole numbers of 0..255.
    """

    def chosen() -> bool:
        return draw.integer(0, 2) == 1

    if chosen():
        photo = _affine(photo, shift=draw.uniform(-BRIGHTNESS, BRIGHTNESS))
    early = chosen()
    if early and chosen():
        photo = _affine(photo, factor=draw.uniform(*FACTORS))
    if chosen():
        hsv = hsv_of_rgb(photo)
        hsv[..., 1] = _affine(hsv[..., 1], factor=draw.uniform(*FACTORS))
        photo = rgb_of_hsv(hsv)
    if chosen():
        hsv = hsv_of_rgb(photo)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + draw.integer(-HUE, HUE)) % HUES
        photo = rgb_of_hsv(hsv)
    if not early and chosen():
        photo = _affine(photo, factor=draw.uniform(*FACTORS))
    return photo


def draw_crop(mask: Mask, size: tuple[int, int], draw: Source) -> Crop:
    """A place for a crop of (height, width) pixels in a mask (H, W).

    Drawn anew, up to ten times, until the crop has at least two classes and none with 75 % of the pixels that are not 255; the
    last draw is taken as it is. A side shorter than the crop is taken whole.
    """
    for _ in range(TRIES):
        top, left = (draw.integer(0, max(side - wanted, 0) + 1) for side, wanted in zip(mask.shape, size, strict=True))
        crop = Crop(top, left)
        part = cropped(mask, crop, size)
        counts = np.bincount(part[part != IGNORE].ravel())
        if np.count_nonzero(counts) > 1 and counts.max() < LARGEST_SHARE * counts.sum():
            break
    return crop


def cropped(pixels: NDArray[np.uint8], crop: Crop, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The crop of a photo (H, W, 3) or mask (H, W); smaller than (height, width) where the photo ends before it."""
    return pixels[crop.top : crop.top + size[0], crop.left : crop.left + size[1]]


def padded(photo: Photo, mask: Mask, size: tuple[int, int], fill: Sequence[float]) -> tuple[NDArray[np.float32], Mask]:
    """Photo and mask in (height, width), as pixel values (H, W, 3) float32; below and to the right ``fill`` (RGB) and 255.

    The released code pads with 0 after normalisation: ``fill`` is the mean colour that is then subtracted.
    """
    pixels, labels = np.empty((*size, 3), np.float32), np.full(size, IGNORE, np.uint8)
    pixels[:] = fill
    height, width = mask.shape
    pixels[:height, :width], labels[:height, :width] = photo, mask
    return pixels, labels


def _affine(levels: NDArray[np.uint8], factor: float = 1.0, shift: float = 0.0) -> NDArray[np.uint8]:
    changed = levels.astype(np.float32) * np.float32(factor) + np.float32(shift)
    return np.asarray(np.clip(changed, 0, 255), np.uint8)
