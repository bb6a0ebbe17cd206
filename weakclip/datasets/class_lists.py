"""The class list that a command line names: a benchmark, or a file in the format of ``classes.txt``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from weakclip.datasets import coco_classes, voc12
from weakclip.datasets.index import ClassList
from weakclip.datasets.labels import read_classes
from weakclip.errors import WeakClipError

KNOWN: Final = {"voc12": voc12.CLASSES, "coco14": coco_classes.CLASSES, "coco91": coco_classes.SLOT_CLASSES}


def class_list(name: str) -> ClassList:
    """``voc12`` (20 classes), ``coco14`` (80), ``coco91`` (the 90 slots of the released code) or the path of a file.

    Raises:
        WeakClipError: the file is missing or holds no class list.
    """
    if name in KNOWN:
        return KNOWN[name]
    if not Path(name).is_file():
        raise WeakClipError(f"{name} is neither a list of classes that is known nor a file", f"there are: {', '.join(KNOWN)}")
    return read_classes(Path(name))
