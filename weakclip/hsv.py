"""Hue, saturation and value of 8-bit pixels in OpenCV's numbers: hue 0..179 in steps of two degrees, the others 0..255."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

HUES: Final = 180
BITS: Final = 12
HALF: Final = 1 << (BITS - 1)
LEVELS: Final = np.arange(1, 256)
# Reciprocals in fixed point, by which OpenCV divides; that of 0 is 0.
BY_VALUE: Final = np.concatenate([[0], np.rint((255 << BITS) / LEVELS)]).astype(np.int32)
BY_RANGE: Final = np.concatenate([[0], np.rint((HUES << BITS) / (6.0 * LEVELS))]).astype(np.int32)
# In each sixth of the colour circle, which of (value, lowest, falling, rising) is red, green and blue.
SECTORS: Final = np.array([(0, 3, 1), (2, 0, 1), (1, 0, 3), (1, 2, 0), (3, 1, 0), (0, 1, 2)])


def hsv_of_rgb(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB to hue, saturation and value, (H, W, 3) uint8, rounded as OpenCV rounds."""
    red, green, blue = np.moveaxis(photo.astype(np.int32), -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    span = value - np.minimum(np.minimum(red, green), blue)
    saturation = (span * BY_VALUE[value] + HALF) >> BITS
    turn = np.where(value == red, green - blue, np.where(value == green, blue - red + 2 * span, red - green + 4 * span))
    hue = (turn * BY_RANGE[span] + HALF) >> BITS
    hue += HUES * (hue < 0)
    return np.stack([hue, saturation, value], axis=-1).astype(np.uint8)


def rgb_of_hsv(hsv: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse of `hsv_of_rgb` up to a level or two; (H, W, 3) uint8 to the same."""
    hue, saturation, value = np.moveaxis(hsv.astype(np.float32), -1, 0)
    saturation, value = saturation * np.float32(1 / 255), value * np.float32(1 / 255)
    sector = hue * np.float32(6 / HUES)
    number = np.floor(sector)
    share = sector - number
    parts = np.stack(
        [value, value * (1 - saturation), value * (1 - saturation * share), value * (1 - saturation * (1 - share))], axis=-1
    )
    rgb = np.take_along_axis(parts, SECTORS[number.astype(np.int64) % 6], axis=-1)
    # OpenCV cuts the fraction off here; only the last few columns of a row, which its vector code leaves over, are rounded.
    return (rgb * np.float32(255)).astype(np.uint8)
