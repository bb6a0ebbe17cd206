"""A small dataset with masks: a hole, a corner that two regions share, unsure pixels, a turned photo, odd names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from weakclip.datasets.index import ClassList, Dataset, Record
from weakclip.export.masked_photos import MaskedPhoto

CLASSES = ClassList(names=("cat", "big dog", "bird"), synonyms=((), (), ()), background_words=())


def discs(height: int, width: int) -> np.ndarray:
    """A ring of cat around a disc of bird, dog in a slanted corner, unsure pixels, two cats that touch at a corner."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2, x - width / 2)
    mask = np.zeros((height, width), np.uint8)
    mask[radius < 0.4 * height] = 1
    mask[radius < 0.3 * height] = 0
    mask[radius < 0.2 * height] = 3
    mask[3 * x + y < 20] = 2
    mask[-3:, :5] = 255
    mask[0, -2], mask[1, -1] = 1, 1
    return mask


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three photos under ``photos``: a JPEG, one that lies on its side, a PNG with a space and an umlaut in its name."""
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(rng.integers(0, 255, (40, 56, 3), np.uint8)).save(photos / "a.jpg")
    Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(photos / "more" / "b.jpg", exif=turned)
    Image.fromarray(rng.integers(0, 255, (36, 36, 3), np.uint8)).save(photos / "more" / "c ü.png")
    rows = (("a", "a.jpg", 40, 56, "train"), ("b", "more/b.jpg", 48, 40, "train"), ("c ü", "more/c ü.png", 36, 36, "val"))
    records = tuple(
        Record(image_id=image_id, photo=str(photos / name), height=height, width=width, split=split, tags=(1, 2, 3), mask=None)
        for image_id, name, height, width, split in rows
    )
    return Dataset(name="folder", classes=CLASSES, records=records)


@pytest.fixture
def masked(dataset: Dataset) -> list[MaskedPhoto]:
    """The photos with masks; the last has no object."""
    photos = [MaskedPhoto(record, discs(record.height, record.width)) for record in dataset.records]
    return [*photos[:-1], MaskedPhoto(dataset.records[-1], np.zeros((36, 36), np.uint8))]
