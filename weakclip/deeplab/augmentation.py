"""Random zoom, crop, mirror and colour for a photo and its mask together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.masks import IGNORE

Photo = NDArray[np.uint8]
Mask = NDArray[np.uint8]
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """``crop_size``: side of the result in pixels. ``scale``: smallest and largest zoom. ``colour``: strength, 0..1.

    ``fill``: RGB 0..255 of what lies outside the photo.
    """

    crop_size: int
    scale: tuple[float, float]
    colour: float
    fill: tuple[int, int, int]


def augment(photo: Photo, mask: Mask, augmentation: Augmentation, draw: np.random.Generator) -> tuple[Photo, Mask]:
    """A crop of a zoomed, perhaps mirrored photo with other colours, and of its mask.

    ``photo``: (H, W, 3) uint8. ``mask``: (H, W) uint8. Returns (S, S, 3) and (S, S) with S the crop size; where the zoomed
    photo is smaller than the crop it lies at a random place, the mask being 255 around it. The zoom's logarithm is uniform.
    """
    size = augmentation.crop_size
    low, high = np.log(augmentation.scale)
    zoom = float(np.exp(draw.uniform(low, high)))
    rows, photo_rows = _window(photo.shape[0], size, zoom, draw.random())
    columns, photo_columns = _window(photo.shape[1], size, zoom, draw.random())
    box = (photo_columns[0], photo_rows[0], photo_columns[1], photo_rows[1])
    target = (columns[1] - columns[0], rows[1] - rows[0])

    new_photo = np.empty((size, size, 3), np.uint8)
    new_photo[:] = augmentation.fill
    new_mask = np.full((size, size), IGNORE, np.uint8)
    place = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
    new_photo[place] = distort_colour(_resize(photo, target, box, Image.Resampling.BILINEAR), augmentation.colour, draw)
    new_mask[place] = _resize(mask, target, box, Image.Resampling.NEAREST)
    if draw.random() < 0.5:
        return np.ascontiguousarray(new_photo[:, ::-1]), np.ascontiguousarray(new_mask[:, ::-1])
    return new_photo, new_mask


def distort_colour(photo: Photo, strength: float, draw: np.random.Generator) -> Photo:
    """Other brightness, contrast, saturation and tint; (H, W, 3) uint8 to the same.

    Factors are drawn from 1 - strength to 1 + strength, that of the tint from half as far. No change at strength 0.
    """
    brightness, contrast, saturation = 1 + strength * draw.uniform(-1, 1, 3).astype(np.float32)
    tint = 1 + strength / 2 * draw.uniform(-1, 1, 3).astype(np.float32)
    if strength == 0:
        return photo
    pixels = photo.astype(np.float32)
    grey = pixels @ LUMINANCE
    # One affine map of the colour: saturation mixes with grey, contrast with the mean grey, brightness and tint scale.
    pixels -= grey[..., None]
    pixels *= saturation
    pixels += (contrast * grey + (1 - contrast) * grey.mean())[..., None]
    pixels *= brightness * tint
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _window(length: int, size: int, zoom: float, where: float) -> tuple[tuple[int, int], tuple[float, float]]:
    """Along one side: from and to in the crop, and from and to in the photo, for a photo of ``length`` pixels.

    ``where``: 0..1, the place of the crop in a larger photo, or of a smaller photo in the crop.
    """
    extent = size / zoom
    if extent <= length:
        first = where * (length - extent)
        return (0, size), (first, first + extent)
    width = max(1, round(length * zoom))
    start = int(where * (size - width + 1))
    start = min(start, size - width)
    return (start, start + width), (0.0, float(length))


def _resize(
    pixels: NDArray[np.uint8], target: tuple[int, int], box: tuple[float, float, float, float], method: Image.Resampling
) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize(target, method, box=box))
