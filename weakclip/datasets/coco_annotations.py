"""COCO's instance annotations: which classes an image has, and the mask that its objects add up to.

The mask is what the converter of the released WeakCLIP renders: objects in the order of the file, crowds among them like any
other; where objects overlap the first one keeps the pixel; a category that is none of the classes becomes 255.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from weakclip.datasets.coco_classes import CLASS_NAMES, CLASS_OF_CATEGORY
from weakclip.errors import WeakClipError
from weakclip.images import LARGEST_PIXELS
from weakclip.masks import IGNORE

HINT = "take instances_train2014.json and instances_val2014.json out of COCO's annotations_trainval2014.zip"


@dataclass(frozen=True)
class AnnotatedImage:
    """An image of the file: its size in pixels, and class and segmentation of each object in the order of the file.

    A segmentation is a list of polygons (x, y, x, y, ...) or a dictionary of run lengths, compressed or not.
    """

    image_id: str
    height: int
    width: int
    objects: tuple[tuple[int, Any], ...]

    @property
    def tags(self) -> tuple[int, ...]:
        """The classes of its objects, crowds included, ascending."""
        return tuple(sorted({index for index, _ in self.objects if index != IGNORE}))


def read_instances(path: Path) -> dict[str, AnnotatedImage]:
    """The images of an ``instances_*.json`` by `short_id`, in the order of the file.

    Raises:
        WeakClipError: the file is missing or damaged, or names categories in another way than COCO does.
    """
    try:
        document = json.loads(path.read_bytes())
        check_categories(path, {int(entry["id"]): str(entry["name"]) for entry in document["categories"]})
        objects: dict[int, list[tuple[int, Any]]] = {int(entry["id"]): [] for entry in document["images"]}
        for entry in document["annotations"]:
            index = CLASS_OF_CATEGORY.get(entry["category_id"], IGNORE)
            objects[entry["image_id"]].append((index, entry["segmentation"]))
        images = [
            AnnotatedImage(short_id(entry["file_name"]), int(entry["height"]), int(entry["width"]), tuple(objects[entry["id"]]))
            for entry in document["images"]
        ]
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, OSError) as error:
        raise WeakClipError(f"{path} holds no instance annotations: {type(error).__name__}: {error}", HINT) from error
    for image in images:
        if min(image.height, image.width) < 1 or image.height * image.width > LARGEST_PIXELS:
            raise WeakClipError(f"{path}: image {image.image_id} is {image.width} x {image.height} pixels", HINT)
    by_id = {image.image_id: image for image in images}
    if len(by_id) < len(images):
        raise WeakClipError(f"{path}: {len(images) - len(by_id):,} images have the id of another one", HINT)
    return by_id


def check_categories(path: Path, categories: dict[int, str]) -> None:
    """Refuse a file whose category ids mean other things than COCO's."""
    for identity, name in categories.items():
        index = CLASS_OF_CATEGORY.get(identity)
        if index is None or CLASS_NAMES[index - 1] != name:
            expected = f"{CLASS_NAMES[index - 1]!r}" if index else "no category of COCO"
            problem = f"{path}: category {identity} is {name!r}; that id is {expected}"
            raise WeakClipError(problem, "coco14 has COCO's own 80 classes; for others set dataset.name to folder")


def short_id(name: str) -> str:
    """The image id of a file name: ``COCO_train2014_000000000009.jpg`` is 000000000009, as in the released code's lists."""
    return name.rsplit("_", 1)[-1].split(".")[0]


def render_mask(image: AnnotatedImage) -> NDArray[np.uint8]:
    """The mask of an image, (height, width) uint8 of classes 0..80 and 255.

    Raises:
        WeakClipError: names the image with a segmentation that is none, or of another size.
    """
    mask = np.zeros((image.height, image.width), np.uint8, order="F")  # as pycocotools decodes, which is faster
    for index, segmentation in reversed(image.objects):  # the last one first: those before it are painted over it
        mask[rasterize(image, segmentation)] = index
    return np.ascontiguousarray(mask)


def check_polygons(polygons: list[Any], limit: int) -> None:
    """pycocotools walks along every edge pixel by pixel, and beyond its memory where corners are far away."""
    if not all(abs(float(value)) <= limit for polygon in polygons for value in polygon):
        raise ValueError("a polygon has a corner far outside of the picture")


def unpacked(text: str) -> list[int]:
    """The run lengths that COCO's compressed form spells: five bits a letter, the lowest first, then a sign.

    From the fourth on each is spelled as what it is more than the last but one.
    """
    counts: list[int] = []
    value, bits = 0, 0
    for letter in text:
        code = ord(letter) - 48
        value |= (code & 31) << bits
        bits += 5
        if code & 32:  # it goes on
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, bits = 0, 0
    if bits:
        raise ValueError("its last run is cut off")
    return counts


def rasterize(image: AnnotatedImage, segmentation: Any) -> NDArray[np.bool_]:
    """The pixels of an object, (height, width) bool."""
    shape = (image.height, image.width)
    if segmentation == []:
        return np.zeros(shape, np.bool_)
    try:
        if isinstance(segmentation, dict) and tuple(segmentation["size"]) != shape:  # before room is made for it
            height, width = segmentation["size"]
            problem = (
                f"image {image.image_id} of {image.width} x {image.height} pixels has a segmentation of {width} x {height}"
            )
            raise WeakClipError(problem, HINT)
        if isinstance(segmentation, list):
            check_polygons(segmentation, image.height + image.width)
            runs = run_lengths.merge(run_lengths.frPyObjects(segmentation, *shape))
        else:
            counts = segmentation["counts"]
            counts = counts if isinstance(counts, list) else unpacked(counts)
            if not all(type(count) is int and count >= 0 for count in counts):
                raise ValueError("runs that are no numbers of pixels")
            if sum(counts) != image.height * image.width:
                # pycocotools would fill what is missing with whatever stands in memory
                raise ValueError(f"runs of {sum(counts)} of {image.height * image.width} pixels")
            runs = run_lengths.frPyObjects({**segmentation, "counts": counts}, *shape)
        with warnings.catch_warnings():  # pycocotools itself calls numpy in a way that numpy 2 discourages
            warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
            covered = np.asarray(run_lengths.decode(runs), dtype=np.bool_)
    except WeakClipError:
        raise
    # pycocotools raises nearly anything for what it does not know.
    except Exception as error:
        raise WeakClipError(f"image {image.image_id} has a segmentation that is none: {error}", HINT) from error
    return covered
