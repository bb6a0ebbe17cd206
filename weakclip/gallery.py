"""Pictures for the report: which images to show, small photos, and masks and maps to lay over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.cam.seeds import resize_maps
from weakclip.datasets.index import Dataset, Record
from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.images import read_photo, resize_photo, write_image
from weakclip.masks import PALETTE, read_mask, resize_mask
from weakclip.selection import Selection

LARGEST_SIDE: Final = 320
OPACITY: Final = 0.6
JPEG_QUALITY: Final = 80
SHADE: Final = 110  # 0..255, opacity of the black over the background of a mask
LEVELS: Final = 16  # of opacity in a CAM
# What all pictures may take together, and what one may take for each of its pixels: finely textured photos need about 0.35.
BYTES: Final = 4_200_000
PHOTO_BYTES: Final = 0.4
LAYER_BYTES: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What the images of one side are ranked by: ``name`` in words, each image's score, 0..1, by image id, and whether a
    large one is good."""

    name: str
    scores: Mapping[str, float]
    large_is_good: bool = True


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An image of the gallery and why it is there: ``rank`` is worst, median or best by a score, 0..1, of the ranking."""

    record: Record
    rank: str
    ranking: Ranking
    score: float


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A picture to lay over the photo: its column, file name and the classes that it shows (255: unsure), without 0."""

    column: str
    file: str
    classes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Those of one image: the small photo's file name, the size that all of them have in pixels, and the layers."""

    photo: str
    width: int
    height: int
    layers: tuple[Layer, ...]


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Class activation maps of an image: ``values`` (n, h, w) in 0..1 for the class indices ``classes``, n at most 255."""

    classes: tuple[int, ...]
    values: NDArray[np.floating]


def gallery_images(dataset: Dataset, training: Ranking, val: Ranking, size: int) -> tuple[Choice, ...]:
    """Choose ``size`` images, half of them from val: a third each of the worst, median and best by score.

    Images without a score, or with NaN, are not chosen. A side that has too few images leaves its places to the other.
    Returns val before training images, each from worst to best.
    """
    ranked = [_ranked(ranking) for ranking in (val, training)]
    of_val = min(len(ranked[0]), max(size // 2, size - len(ranked[1])))
    places = (of_val, min(len(ranked[1]), size - of_val))
    chosen = [
        (ranking, rank, image_id)
        for ranking, image_ids, count in zip((val, training), ranked, places, strict=True)
        for rank, image_id in _worst_median_best(image_ids, count)
    ]
    wanted = {image_id for _, _, image_id in chosen}
    records = {record.image_id: record for record in dataset.records if record.image_id in wanted}
    return tuple(
        Choice(record=records[image_id], rank=rank, ranking=ranking, score=abs(ranking.scores[image_id]))
        for ranking, rank, image_id in chosen
    )


def picture_side(photos: int, layers: int) -> int:
    """Longest side in pixels with which so many pictures stay within the size of a page."""
    return min(LARGEST_SIDE, int(math.sqrt(BYTES / max(PHOTO_BYTES * photos + LAYER_BYTES * layers, 1))))


def blend(photo: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay the palette colours of a mask (H, W) over a photo (H, W, 3); background darkens it."""
    colours = PALETTE[mask].astype(np.float32)
    return np.round((1 - OPACITY) * photo + OPACITY * colours).astype(np.uint8)


def write_pictures(
    record: Record, masks: Mapping[str, Path | str | None], maps: Maps | None, folder: Path, side: int
) -> Pictures:
    """Write an image's pictures to ``folder/<image_id>_<column>``, longest side at most ``side`` pixels.

    The photo is a JPEG; the layers are PNGs with transparent parts: ``maps``, where there are any, then the ``masks`` in their
    order, by column; None where there is none: that column is left out. Raises WeakClipError for a file that is missing or
    damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photo = small_photo(record, side)
    height, width = photo.shape[:2]
    file = f"{record.image_id}_photo.jpg"
    write_image(folder / file, Image.fromarray(photo), format="JPEG", quality=JPEG_QUALITY)
    layers = []
    if maps is not None:
        layers.append(Layer(column="cam", file=f"{record.image_id}_cam.png", classes=maps.classes))
        _write_indexed(folder / layers[-1].file, *map_layer(maps, height, width))
    for column, path in masks.items():
        if path is not None:
            mask = resize_mask(read_mask(path), height, width)
            classes = tuple(int(index) for index in np.unique(mask) if index)
            layers.append(Layer(column=column, file=f"{record.image_id}_{column}.png", classes=classes))
            _write_indexed(folder / layers[-1].file, mask, PALETTE, np.array([SHADE] + 255 * [255], np.uint8))
    return Pictures(photo=file, width=width, height=height, layers=tuple(layers))


def write_overlay(record: Record, mask: Path, file: Path) -> None:
    """Write the photo with the mask over it as one small PNG."""
    photo = small_photo(record, LARGEST_SIDE)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_image(file, Image.fromarray(blend(photo, resize_mask(read_mask(mask), *photo.shape[:2]))), format="PNG")


def small_photo(record: Record, side: int) -> NDArray[np.uint8]:
    """The photo (H, W, 3), shrunk to a longest side of at most ``side``; small ones are not enlarged."""
    photo = read_photo(record.photo, record.crc32)
    scale = min(1.0, side / max(photo.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in photo.shape[:2])
    return resize_photo(photo, height, width)


def map_layer(maps: Maps, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Each pixel in the colour of its strongest class, the more opaque the stronger.

    Returns indices (height, width), their colours (256, 3) and their opacities (256,), all uint8.
    """
    levels = min(LEVELS, 255 // max(len(maps.classes), 1))
    colours, opacities = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    if not maps.classes:
        return np.zeros((height, width), np.uint8), colours, opacities
    used = 1 + np.arange(levels * len(maps.classes))  # 0 stays empty
    colours[used] = np.repeat(PALETTE[list(maps.classes)], levels, axis=0)
    opacities[used] = np.tile(np.round(255 * np.arange(1, levels + 1) / levels), len(maps.classes))
    values = resize_maps(maps.values, height, width)
    level = np.round(np.clip(values.max(axis=0), 0, 1) * levels).astype(np.int64)
    return np.where(level > 0, values.argmax(axis=0) * levels + level, 0).astype(np.uint8), colours, opacities


def spread(records: Sequence[Record], count: int) -> list[Record]:
    """At most ``count`` of the records, evenly spread: the same in every run on the same dataset."""
    count = min(count, len(records))
    return [records[position * len(records) // count] for position in range(count)]


def _write_indexed(path: Path, indices: NDArray[np.uint8], colours: NDArray[np.uint8], opacities: NDArray[np.uint8]) -> None:
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    write_image(path, image, format="PNG", compress_level=9, transparency=opacities.tobytes())


def _ranked(ranking: Ranking) -> Sequence[str]:
    """The images that have a score, from the worst to the best; equal ones by their id."""
    found = ranking.scores
    if not isinstance(found, ImageFigures):
        found = ImageFigures(ImageIds(found), np.fromiter(found.values(), np.float64))
    order = np.lexsort((found.image_ids.utf8, found.numbers if ranking.large_is_good else -found.numbers))  # NaNs last
    return Selection(found.image_ids, order[: np.count_nonzero(~np.isnan(found.numbers))])


def _worst_median_best(image_ids: Sequence[str], count: int) -> list[tuple[str, str]]:
    ends = (count + 2) // 3, count // 3  # worst, best; the rest lies around the median
    middle = count - sum(ends)
    start = ends[0] + (len(image_ids) - count) // 2
    parts = (
        ("worst", image_ids[: ends[0]]),
        ("median", image_ids[start : start + middle]),
        ("best", image_ids[len(image_ids) - ends[1] :]),
    )
    return [(rank, image_id) for rank, part in parts for image_id in part]
