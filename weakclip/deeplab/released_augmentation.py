"""Random colour, mirror, zoom and crop, as the released DeepLab of WeakCLIP is trained: first what is drawn, then what is done.

Differs from `weakclip.deeplab.augmentation` in that colours are shifted in hue, saturation and value, the zoom itself is
uniform, resizing is bicubic without antialiasing, and the outside has exactly the mean colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weakclip.hsv import HUES, hsv_of_rgb, rgb_of_hsv
from weakclip.masks import IGNORE
from weakclip.resampling import resize_cubic, resize_nearest, to_levels

Photo = NDArray[np.uint8]
Mask = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ReleasedAugmentation:
    """``crop_size``: side of the result in pixels. ``scale``: smallest and largest zoom. ``shift``: of the colours, levels.

    ``fill``: RGB 0..255 of what lies outside the photo.
    """

    crop_size: int
    scale: tuple[float, float]
    shift: int
    fill: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What is done to a photo and its mask.

    ``hue``, ``saturation``, ``value``: shifts in levels. ``top``, ``left``: of the crop in the zoomed photo, pixels; negative
    where the photo begins inside the crop.
    """

    hue: int
    saturation: int
    value: int
    mirror: bool
    zoom: float
    top: int
    left: int


def augment(
    photo: Photo, mask: Mask, augmentation: ReleasedAugmentation, draw: np.random.Generator
) -> tuple[NDArray[np.float32], Mask]:
    """A random crop of a photo, (H, W, 3) uint8, and of its mask, (H, W): (S, S, 3) pixel values 0..255 and (S, S)."""
    draws = draw_changes(photo.shape[0], photo.shape[1], augmentation, draw)
    photo, mask = zoomed(shifted(photo, draws.hue, draws.saturation, draws.value), mask, draws)
    return cropped(photo, mask, draws, augmentation)


def draw_changes(height: int, width: int, augmentation: ReleasedAugmentation, draw: np.random.Generator) -> Draws:
    """What is done to a photo of height x width pixels. A zoomed side that is shorter than the crop lies anywhere in it."""
    hue, saturation, value = (int(level) for level in draw.integers(-augmentation.shift, augmentation.shift + 1, size=3))
    mirror = bool(draw.random() < 0.5)
    zoom = float(draw.uniform(*augmentation.scale))
    top, left = (_place(zoomed_side(side, zoom) - augmentation.crop_size, draw) for side in (height, width))
    return Draws(hue=hue, saturation=saturation, value=value, mirror=mirror, zoom=zoom, top=top, left=left)


def shifted(photo: Photo, hue: int, saturation: int, value: int) -> Photo:
    """A photo (H, W, 3) in other colours: the hue goes round, the other two end at 0 and 255."""
    hsv = hsv_of_rgb(photo).astype(np.int16) + np.array([hue, saturation, value], np.int16)
    hsv[..., 0] %= HUES
    return rgb_of_hsv(np.clip(hsv, 0, 255).astype(np.uint8))


def zoomed(photo: Photo, mask: Mask, draws: Draws) -> tuple[Photo, Mask]:
    """Photo (H, W, 3) and mask (H, W), mirrored where that was drawn, and zoomed."""
    if draws.mirror:
        photo, mask = photo[:, ::-1], mask[:, ::-1]
    height, width = (zoomed_side(side, draws.zoom) for side in mask.shape)
    return to_levels(resize_cubic(photo, height, width, draws.zoom)), resize_nearest(mask, height, width, draws.zoom)


def cropped(photo: Photo, mask: Mask, draws: Draws, augmentation: ReleasedAugmentation) -> tuple[NDArray[np.float32], Mask]:
    """The crop that was drawn; outside the photo it has the colour ``fill`` and the label 255."""
    size = augmentation.crop_size
    new_photo = np.empty((size, size, 3), np.float32)
    new_photo[:] = augmentation.fill
    new_mask = np.full((size, size), IGNORE, np.uint8)
    (rows, from_rows), (columns, from_columns) = (
        _overlap(start, length, size) for start, length in zip((draws.top, draws.left), mask.shape, strict=True)
    )
    new_photo[rows, columns] = photo[from_rows, from_columns]
    new_mask[rows, columns] = mask[from_rows, from_columns]
    return new_photo, new_mask


def zoomed_side(side: int, zoom: float) -> int:
    """Pixels of a zoomed side, halves rounded to even."""
    return max(1, round(side * zoom))


def _place(room: int, draw: np.random.Generator) -> int:
    return int(draw.integers(min(room, 0), max(room, 0) + 1))


def _overlap(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Where a side of ``length`` pixels lies in a crop of ``size`` that begins at ``start`` in it: in the crop, in the side."""
    first, last = max(start, 0), min(start + size, length)
    return slice(first - start, last - start), slice(first, last)
