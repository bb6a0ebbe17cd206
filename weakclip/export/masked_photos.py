"""What is exported: photos of a dataset index with their masks, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.datasets.index import Dataset, Record
from weakclip.errors import WeakClipError
from weakclip.images import open_image, orientation, read_photo
from weakclip.masks import IGNORE, read_mask

JPEG_QUALITY: Final = 95


@dataclass(frozen=True)
class MaskedPhoto:
    """``mask``: (H, W) uint8 class indices at the size of the upright photo, 255 where unsure."""

    record: Record
    mask: NDArray[np.uint8]


def with_masks(dataset: Dataset, folder: Path) -> tuple[Record, ...]:
    """The records that have a mask ``folder/<image_id>.png``.

    Raises:
        WeakClipError: none has.
    """
    found = tuple(record for record in dataset.records if (folder / f"{record.image_id}.png").is_file())
    if not found:
        problem = f"{folder} holds no mask of the {len(dataset.records):,} images of the dataset"
        raise WeakClipError(problem, "`dvc repro` makes data/masks/refined; masks are called <image id>.png")
    return found


def read_masked_photo(record: Record, folder: Path, num_classes: int) -> MaskedPhoto:
    """One mask, checked against the photo's size and the classes.

    Raises:
        WeakClipError: names a mask that is damaged, of another size, or that holds an index beyond the classes.
    """
    path = folder / f"{record.image_id}.png"
    mask = read_mask(path)
    if mask.shape != (record.height, record.width):
        size = f"{mask.shape[1]} x {mask.shape[0]}"
        problem = f"{path} is {size} pixels, the photo {record.width} x {record.height}"
        raise WeakClipError(problem, "make the masks anew: `dvc repro`")
    beyond = mask[(mask >= num_classes) & (mask != IGNORE)]
    if beyond.size:
        problem = f"{path} holds the class index {beyond.max()}; there are 0 to {num_classes - 1}, and {IGNORE}"
        raise WeakClipError(problem, "give the dataset index that the masks were made with: --dataset")
    return MaskedPhoto(record, mask)


def read_masked_photos(records: Sequence[Record], folder: Path, num_classes: int) -> Iterator[MaskedPhoto]:
    """All of them, read as they are asked for."""
    return (read_masked_photo(record, folder, num_classes) for record in records)


def folder_of_photos(records: Sequence[Record]) -> Path:
    """The innermost folder that holds all photos of the records."""
    return Path(os.path.commonpath([Path(record.photo).parent for record in records]))


def copy_upright(photo: Path | str, target: Path) -> None:
    """Write the photo as a JPEG whose pixels are upright: a copy where it is one, encoded anew (quality 95) where not.

    Tools that do not turn photos by their EXIF orientation would lay masks over them askew.
    """
    with open_image(photo) as image:
        plain = image.format == "JPEG" and image.mode == "RGB" and orientation(image) == 1
    if plain:
        target.write_bytes(Path(photo).read_bytes())
    else:
        Image.fromarray(read_photo(photo)).save(target, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
