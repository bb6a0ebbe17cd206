"""PASCAL VOC's folder of a segmentation dataset, as torchvision's ``VOCSegmentation`` and ``weakclip preset voc12`` read it.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012: JPEGImages, SegmentationClass (palette PNGs, 255 = ignore), lists of image ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from weakclip.datasets.index import ClassList
from weakclip.datasets.lists import write_ids
from weakclip.export.masked_photos import MaskedPhoto, copy_upright
from weakclip.masks import IGNORE, PALETTE, write_mask

FOLDER: Final = Path("VOCdevkit", "VOC2012")


def write_voc(photos: Iterable[MaskedPhoto], classes: ClassList, folder: Path) -> dict[str, int]:
    """Write ``folder/VOCdevkit/VOC2012``; returns how many images each list has.

    Lists are train, val and trainval, and trainaug (train and more) where the dataset has more. ``labelmap.txt`` names the
    classes and their colours, and, for readers of colours, 255 as VOC's ``ignored``.
    """
    root = folder / FOLDER
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    splits: dict[str, list[str]] = defaultdict(list)
    for photo in photos:
        image_id = photo.record.image_id
        copy_upright(photo.record.photo, root / "JPEGImages" / f"{image_id}.jpg")
        write_mask(root / "SegmentationClass" / f"{image_id}.png", photo.mask)
        splits[photo.record.split].append(image_id)
    lists: dict[str, Sequence[str]] = {name: splits[name] for name in ("train", "val")}
    lists["trainval"] = sorted(splits["train"] + splits["val"])
    if splits["trainaug"]:
        lists["trainaug"] = sorted(splits["train"] + splits["trainaug"])
    for name, image_ids in lists.items():
        write_ids(root / "ImageSets" / "Segmentation" / f"{name}.txt", image_ids)
    (root / "labelmap.txt").write_text(labelmap(classes) + labelled("ignored", IGNORE), encoding="utf-8", newline="\n")
    return {name: len(image_ids) for name, image_ids in lists.items()}


def labelmap(classes: ClassList) -> str:
    """A class a line with its colour in the masks, ``name:red,green,blue:parts:actions``, as CVAT and Datumaro read it."""
    rows = [labelled(name, index) for index, name in enumerate(classes.with_background)]
    return "# label:color_rgb:parts:actions\n" + "".join(rows)


def labelled(name: str, index: int) -> str:
    """A line of it."""
    return f"{name}:{','.join(str(value) for value in PALETTE[index].tolist())}::\n"
