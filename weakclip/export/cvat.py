"""CVAT's "Segmentation mask 1.1": a zip of VOC-like masks, to be uploaded as annotations of a task that has the photos.

https://docs.cvat.ai/docs/dataset_management/formats/format-smask
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from weakclip.datasets.index import ClassList
from weakclip.export.masked_photos import MaskedPhoto
from weakclip.export.voc import labelmap
from weakclip.masks import IGNORE, PALETTE

EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first moment a zip knows: the same masks give the same bytes


def write_cvat(photos: Iterable[MaskedPhoto], classes: ClassList, root: Path, out: Path) -> dict[str, int]:
    """Write the zip; returns how many images it has.

    CVAT finds an image by its path without ending, here relative to ``root``, so the task's photos must be called so. It knows
    no unsure pixels: 255 becomes background.
    """
    names = []
    with zipfile.ZipFile(out, "w") as archive:
        for photo in photos:
            name = photo.record.photo.relative_to(root).with_suffix("").as_posix()
            names.append(name)
            put(archive, f"SegmentationClass/{name}.png", coloured_png(photo), zipfile.ZIP_STORED)
        put(archive, "labelmap.txt", labelmap(classes).encode(), zipfile.ZIP_DEFLATED)
        listed = "".join(f"{name}\n" for name in names)
        put(archive, "ImageSets/Segmentation/default.txt", listed.encode(), zipfile.ZIP_DEFLATED)
    return {"images": len(names)}


def coloured_png(photo: MaskedPhoto) -> bytes:
    """The mask in the colours of the label map, as RGB."""
    mask = np.where(photo.mask == IGNORE, 0, photo.mask)
    file = io.BytesIO()
    Image.fromarray(PALETTE[mask]).save(file, format="PNG")
    return file.getvalue()


def put(archive: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    """Add a file to the archive, without the time of day."""
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = 0o644 << 16  # readable once unpacked
    archive.writestr(entry, content, compress_type=compression)
