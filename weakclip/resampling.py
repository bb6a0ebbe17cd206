"""Resizing as OpenCV does it: without antialiasing, 8-bit bilinear in fixed-point arithmetic.

The released code of WeakCLIP and of its DeepLab resizes with OpenCV, whose results differ visibly from antialiased ones. Pixel
centres lie at half numbers; beyond the border the outermost pixel repeats. From OpenCV (modules/imgproc, resize) come the
numbers: 11 fractional bits of a weight, -0.75 as the parameter of the cubic kernel.
"""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

BITS: Final = 11  # fractional bits of a weight
CUBIC: Final = np.float32(-0.75)
Element = TypeVar("Element", bound=np.generic)


def resize_nearest(pixels: NDArray[Element], height: int, width: int, factor: float | None = None) -> NDArray[Element]:
    """(H, W, ...) at (height, width, ...), each pixel taken from one old pixel.

    ``factor``: the exact zoom, where the new sides are roundings of it; by default the ratio of the sides.
    """
    rows, columns = (
        np.minimum(np.floor(np.arange(new) * _step(old, new, factor)).astype(np.int64), old - 1)
        for old, new in zip(pixels.shape[:2], (height, width), strict=True)
    )
    return np.ascontiguousarray(pixels[rows[:, None], columns[None, :]])


def resize_without_antialias(photo: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A photo (H, W, 3) uint8 at (height, width, 3), bilinear; at exactly half its size the mean of four pixels."""
    if photo.shape[:2] == (height, width):
        return photo.copy()
    pixels = photo.astype(np.int32)
    if photo.shape[:2] == (2 * height, 2 * width):
        four = pixels[::2, ::2] + pixels[1::2, ::2] + pixels[::2, 1::2] + pixels[1::2, 1::2]
        return ((four + 2) >> 2).astype(np.uint8)
    (rows, row_shares), (columns, column_shares) = (
        _places(old, new, None, reach=range(2)) for old, new in zip(photo.shape[:2], (height, width), strict=True)
    )
    across = _mix(pixels, columns, _fixed(_linear(column_shares)), axis=1)
    # Down the columns, each product loses its low bits before the two are added.
    weights = _fixed(_linear(row_shares))[:, :, None, None]
    upper, lower = (((across[rows[:, tap]] >> 4) * weights[:, tap]) >> 16 for tap in range(2))
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def resize_cubic(pixels: NDArray[np.number], height: int, width: int, factor: float | None = None) -> NDArray[np.float32]:
    """(H, W, 3) at (height, width, 3), bicubic, as floats that may leave the range of the old pixels by a little.

    ``factor``: see `resize_nearest`.
    """
    (rows, row_shares), (columns, column_shares) = (
        _places(old, new, factor, reach=range(-1, 3)) for old, new in zip(pixels.shape[:2], (height, width), strict=True)
    )
    across = _mix(pixels.astype(np.float32), columns, _cubic(column_shares), axis=1)
    return _mix(across, rows, _cubic(row_shares), axis=0)


def to_levels(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Floats of any shape, rounded, halves to even, and cut to 0..255."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _step(old: int, new: int, factor: float | None) -> float:
    return 1 / (factor or new / old)  # as OpenCV rounds it: old / new, an ulp away, would hit other pixels


def _places(old: int, new: int, factor: float | None, reach: range) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where each new pixel's centre lies between the centres of old pixels.

    Returns the old pixels that lie ``reach`` from the one before it, (new, len(reach)), and its distance from that one, 0..1.
    """
    centres = ((np.arange(new) + 0.5) * _step(old, new, factor) - 0.5).astype(np.float32)
    before = np.floor(centres)
    taps = before.astype(np.int64)[:, None] + np.array(reach)
    return np.clip(taps, 0, old - 1), centres - before


def _linear(share: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([1 - share, share], axis=1)


def _cubic(share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keys' cubic convolution: weights of the two pixels before a place and of the two behind it."""
    far, rest = share + 1, 1 - share
    first = ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC
    second = ((CUBIC + 2) * share - (CUBIC + 3)) * share * share + 1
    third = ((CUBIC + 2) * rest - (CUBIC + 3)) * rest * rest + 1
    return np.stack([first, second, third, 1 - first - second - third], axis=1)


def _fixed(weights: NDArray[np.float32]) -> NDArray[np.int32]:
    fixed: NDArray[np.int32] = np.rint(weights * np.float32(1 << BITS)).astype(np.int32)
    return fixed


def _mix(pixels: NDArray[Element], taps: NDArray[np.int64], weights: NDArray[Element], axis: int) -> NDArray[Element]:
    """Weighted sums of old pixels along an axis: ``taps`` and ``weights`` are (new, n)."""
    shape = (-1, 1, 1) if axis == 0 else (-1, 1)
    mixed = sum(np.take(pixels, taps[:, tap], axis) * weights[:, tap].reshape(shape) for tap in range(taps.shape[1]))
    return np.asarray(mixed, dtype=pixels.dtype)
