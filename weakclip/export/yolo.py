"""Ultralytics' folder for segmentation: ``data.yaml``, ``images/<split>`` and ``labels/<split>``, a polygon a line.

https://docs.ultralytics.com/datasets/segment: ``<class> <x1> <y1> <x2> <y2> ...``, classes from 0, coordinates as shares of
width and height.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from weakclip.datasets.index import ClassList
from weakclip.export.masked_photos import MaskedPhoto, copy_upright
from weakclip.export.outlines import polygon
from weakclip.regions import regions


def write_yolo(photos: Iterable[MaskedPhoto], classes: ClassList, folder: Path) -> dict[str, int]:
    """Write the folder, which must be there; returns how many images each split has.

    A photo without objects has an empty label file. Pixels that are 255 are in no object.
    """
    counts: dict[str, int] = {}
    for photo in photos:
        split = "val" if photo.record.split == "val" else "train"
        if split not in counts:
            (folder / "images" / split).mkdir(parents=True)
            (folder / "labels" / split).mkdir(parents=True)
        counts[split] = counts.get(split, 0) + 1
        copy_upright(photo.record.photo, folder / "images" / split / f"{photo.record.image_id}.jpg")
        text = "".join(f"{line}\n" for line in lines(photo))
        (folder / "labels" / split / f"{photo.record.image_id}.txt").write_text(text, encoding="utf-8", newline="\n")
    (folder / "data.yaml").write_text(description(classes, counts), encoding="utf-8", newline="\n")
    return counts


def lines(photo: MaskedPhoto) -> list[str]:
    """A line for each connected region."""
    height, width = photo.mask.shape
    found = []
    for region in regions(photo.mask):
        shares = polygon(region) / np.array([width, height])
        numbers = " ".join(f"{share:.6f}" for share in shares.ravel().tolist())
        found.append(f"{region.class_index - 1} {numbers}")
    return found


def description(classes: ClassList, splits: Iterable[str]) -> str:
    """``data.yaml``. Paths are relative to it; both splits are asked for, so one that is missing is the other."""
    there = sorted(splits)
    rows = []
    for split in ("train", "val"):
        remark = "" if split in there else f"  # there are no masks of {split}: do not trust what is measured on this"
        rows.append(f"{split}: images/{split if split in there else there[0]}{remark}")
    # JSON's strings are YAML's.
    names = [f"  {index}: {json.dumps(name, ensure_ascii=False)}" for index, name in enumerate(classes.names)]
    return "\n".join([*rows, "names:", *names]) + "\n"
