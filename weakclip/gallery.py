"""Pictures for the report: which images to show, and masks laid over small photos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.datasets.index import Dataset, Record
from weakclip.images import read_photo, resize_photo
from weakclip.masks import IGNORE, PALETTE, read_mask, resize_mask

LARGEST_SIDE = 320
OPACITY = 0.6
JPEG_QUALITY = 80
# What all thumbnails may take together, and what one may take per pixel: finely textured photos need about 0.35.
BYTES = 4_500_000
BYTES_PER_PIXEL = 0.4


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An image of the gallery and why it is there: ``rank`` is worst, median or best by ``ranked_by``, ``score`` 0..1."""

    record: Record
    rank: str
    ranked_by: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What the images of one side are ranked by: ``name`` (in words) and each image's score, 0..1, by image id."""

    name: str
    scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a gallery row: its column, file name, size in pixels and the classes that it shows (255: unsure)."""

    column: str
    file: str
    width: int
    height: int
    classes: tuple[int, ...]


def gallery_images(dataset: Dataset, training: Ranking, val: Ranking, size: int) -> tuple[Choice, ...]:
    """Choose ``size`` images, half of them from val: a third each of the worst, median and best by score.

    Images without a score, or with NaN, are not chosen. A side that has too few images leaves its places to the other.
    Returns val before training images, each from worst to best.
    """
    records = {record.image_id: record for record in dataset.records}
    ranked = [
        sorted((score, image_id) for image_id, score in ranking.scores.items() if not math.isnan(score))
        for ranking in (val, training)
    ]
    of_val = min(len(ranked[0]), max(size // 2, size - len(ranked[1])))
    places = (of_val, min(len(ranked[1]), size - of_val))
    return tuple(
        Choice(record=records[image_id], rank=rank, ranked_by=ranking.name, score=score)
        for ranking, scored, count in zip((val, training), ranked, places, strict=True)
        for rank, score, image_id in _worst_median_best(scored, count)
    )


def thumbnail_side(count: int) -> int:
    """Longest side in pixels that keeps ``count`` thumbnails within the size of a page."""
    return min(LARGEST_SIDE, int(math.sqrt(BYTES / (BYTES_PER_PIXEL * max(count, 1)))))


def blend(photo: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay the palette colours of a mask (H, W) over a photo (H, W, 3); background darkens it."""
    colours = PALETTE[mask].astype(np.float32)
    return np.round((1 - OPACITY) * photo + OPACITY * colours).astype(np.uint8)


def write_panels(record: Record, masks: Mapping[str, Path | None], folder: Path, side: int) -> tuple[Panel, ...]:
    """Write a row's pictures to ``folder/<image_id>_<column>.jpg``, longest side at most ``side`` pixels.

    ``masks``: mask file by column, in the order of the columns; None where there is none: that column is left out. The
    column ``photo`` comes first. Raises WeakClipError for a file that is missing or damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photo = read_photo(record.photo, record.crc32)
    scale = min(1.0, side / max(photo.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in photo.shape[:2])
    photo = resize_photo(photo, height, width)
    panels = [_write(photo, record.image_id, "photo", folder, ())]
    for column, path in masks.items():
        if path is not None:
            mask = resize_mask(read_mask(path), height, width)
            classes = tuple(int(index) for index in np.unique(mask) if index)
            panels.append(_write(blend(photo, mask), record.image_id, column, folder, classes))
    return tuple(panels)


def shown_classes(panels: Sequence[Panel]) -> tuple[int, ...]:
    """The classes that any of the panels shows, ascending, without 255."""
    return tuple(sorted({index for panel in panels for index in panel.classes} - {IGNORE}))


def _write(picture: NDArray[np.uint8], image_id: str, column: str, folder: Path, classes: tuple[int, ...]) -> Panel:
    file = f"{image_id}_{column}.jpg"
    Image.fromarray(picture).save(folder / file, format="JPEG", quality=JPEG_QUALITY)
    return Panel(column=column, file=file, width=picture.shape[1], height=picture.shape[0], classes=classes)


def _worst_median_best(scored: Sequence[tuple[float, str]], count: int) -> list[tuple[str, float, str]]:
    ends = (count + 2) // 3, count // 3  # worst, best; the rest lies around the median
    middle = count - sum(ends)
    start = ends[0] + (len(scored) - count) // 2
    parts = (
        ("worst", scored[: ends[0]]),
        ("median", scored[start : start + middle]),
        ("best", scored[len(scored) - ends[1] :]),
    )
    return [(rank, score, image_id) for rank, part in parts for score, image_id in part]
