"""CVAT's "Segmentation mask 1.1": a zip of VOC-like masks, to be uploaded as annotations of a task that has the photos.

https://docs.cvat.ai/docs/dataset_management/formats/format-smask. Beside the classes there are the objects: where they are
missing, CVAT takes the background for an object of a class that its task does not know (cvat-ai/cvat issues 6269 and 8995).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.datasets.index import ClassList
from weakclip.export.masked_photos import MaskedPhoto
from weakclip.export.voc import labelmap
from weakclip.masks import IGNORE, PALETTE
from weakclip.regions import regions

MOST_OBJECTS: Final = 255  # that colours of the palette can tell apart
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first moment a zip knows: the same masks give the same bytes


def write_cvat(photos: Iterable[MaskedPhoto], classes: ClassList, root: Path, out: Path) -> dict[str, int]:
    """Write the zip; returns how many images it has.

    CVAT finds an image by its path without ending, here relative to ``root``, so the task's photos must be called so. It knows
    no unsure pixels: 255 becomes background. An object is a connected region.
    """
    names = []
    with zipfile.ZipFile(out, "w") as archive:
        for photo in photos:
            name = Path(photo.record.photo).relative_to(root).with_suffix("").as_posix()
            names.append(name)
            classes_of_pixels = np.where(photo.mask == IGNORE, 0, photo.mask)
            put(archive, f"SegmentationClass/{name}.png", coloured_png(classes_of_pixels), zipfile.ZIP_STORED)
            put(archive, f"SegmentationObject/{name}.png", coloured_png(objects(classes_of_pixels)), zipfile.ZIP_STORED)
        put(archive, "labelmap.txt", labelmap(classes).encode(), zipfile.ZIP_DEFLATED)
        listed = "".join(f"{name}\n" for name in names)
        put(archive, "ImageSets/Segmentation/default.txt", listed.encode(), zipfile.ZIP_DEFLATED)
    return {"images": len(names)}


def objects(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The number of the object from 1 on at every pixel of a mask (H, W), 0 in the background.

    Where there are more regions than colours, which only speckles can be, an object is all that is of a class.
    """
    found = regions(mask)
    if len(found) > MOST_OBJECTS:
        return mask
    numbers = np.zeros_like(mask)
    for number, region in enumerate(found, start=1):
        numbers[region.in_photo(*mask.shape)] = number
    return numbers


def coloured_png(mask: NDArray[np.uint8]) -> bytes:
    """Indices (H, W) in the colours of the palette, as RGB."""
    file = io.BytesIO()
    Image.fromarray(PALETTE[mask]).save(file, format="PNG")
    return file.getvalue()


def put(archive: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    """Add a file to the archive, without the time of day."""
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = 0o644 << 16  # readable once unpacked
    archive.writestr(entry, content, compress_type=compression)
