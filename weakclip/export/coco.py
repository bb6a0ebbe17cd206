"""COCO's JSON of objects, as pycocotools reads it (https://cocodataset.org/#format-data).

An object is a connected region. It is no crowd, though COCO keeps run lengths for crowds: trainers and COCOeval leave crowds
out. Where the classes are COCO's, their categories have COCO's ids: 1 to 90, with gaps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from pycocotools import mask as run_lengths

from weakclip.datasets.coco_classes import CLASS_NAMES, SLOTS
from weakclip.datasets.index import ClassList
from weakclip.export.masked_photos import MaskedPhoto
from weakclip.export.outlines import polygon
from weakclip.regions import Region, regions

Segmentation = Callable[[Region, int, int], object]
"""Region, height and width of the photo -> what stands in the annotation."""


def write_coco(
    photos: Iterable[MaskedPhoto],
    classes: ClassList,
    root: Path,
    out: Path,
    segmentation: Segmentation,
    *,
    images_of_coco: bool = False,
) -> dict[str, int]:
    """Write the JSON, an annotation a line; returns how many images and annotations it has.

    Images are named relative to ``root`` and numbered from 1; with ``images_of_coco`` by their ids, which are COCO's numbers.
    Pixels that are 255 are in no object. Annotations are written as they come: memory grows with images, not with objects.
    """
    categories = category_ids(classes)
    images: list[Mapping[str, object]] = []
    count = 0
    with out.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"info": {"description": "weakly supervised masks, written by weakclip export"},\n"annotations": [\n')
        for photo in photos:
            record = photo.record
            number = int(record.image_id) if images_of_coco else len(images) + 1
            name = Path(record.photo).relative_to(root).as_posix()
            images.append({"id": number, "file_name": name, "height": record.height, "width": record.width})
            for region in regions(photo.mask):
                count += 1
                found = segmentation(region, record.height, record.width)
                row = {"id": count, "image_id": number, "category_id": categories[region.class_index], "segmentation": found}
                write_row(file, row | extent(region), first=count == 1)
        file.write('\n],\n"images": [\n')
        for place, image in enumerate(images):
            write_row(file, image, first=place == 0)
        file.write('\n],\n"categories": [\n')
        for index, name in enumerate(classes.names, start=1):
            write_row(file, {"id": categories[index], "name": name, "supercategory": ""}, first=index == 1)
        file.write("\n]}\n")
    return {"images": len(images), "annotations": count}


def category_ids(classes: ClassList) -> Sequence[int]:
    """By class index, 0 for the background: COCO's own where all classes are COCO's, elsewhere the index."""
    return SLOTS if classes.names == CLASS_NAMES else range(classes.num_classes)


def write_row(file: TextIO, row: Mapping[str, object], *, first: bool) -> None:
    """Write a row of a JSON list."""
    file.write(("" if first else ",\n") + json.dumps(row, ensure_ascii=False))


def extent(region: Region) -> dict[str, object]:
    """COCO's area and box of a region, pixels."""
    height, width = region.pixels.shape
    return {"area": region.area, "bbox": [region.left, region.top, width, height], "iscrowd": 0}


def as_run_lengths(region: Region, height: int, width: int) -> object:
    """COCO's compressed run lengths: exactly the pixels."""
    encoded = run_lengths.encode(np.asfortranarray(region.in_photo(height, width)))
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def as_polygons(region: Region, height: int, width: int) -> object:
    """A list of one polygon: x and y by turns, in pixels."""
    return [polygon(region).ravel().tolist()]
