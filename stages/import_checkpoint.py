"""Bring a checkpoint of the released code into this project's format.

Reads:  a ``.pth`` file.
Writes: a folder such as ``data/weakclip`` or ``data/deeplab`` (weights and card).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from weakclip.datasets.class_lists import class_list
from weakclip.datasets.index import ClassList
from weakclip.deeplab.released import import_deeplab, is_released_deeplab
from weakclip.progress import say
from weakclip.released.checkpoint import import_checkpoint

SLOTTED: Final = {"coco14": "coco91"}  # the released COCO networks have a class for each category id


def main(file: Path, classes: str, out: Path) -> None:
    """Import the checkpoint, and say what of it is not used."""
    names = names_of(classes)
    if is_released_deeplab(file):
        imported, use = import_deeplab(file, names, out), f"python -m stages.evaluate --deeplab {out}"
    else:
        imported, use = import_checkpoint(file, names, out), f"python -m stages.generate_masks --weakclip {out}"
    say(f"{out} holds {imported.used} of {imported.used + len(imported.unused)} tensors of {file}")
    if imported.unused:
        say(f"  not used, since they never influence anything: {', '.join(imported.unused)}")
    say(f"  `{use}` makes masks with it")


def names_of(classes: str) -> ClassList:
    """The classes of a checkpoint: names alone, for the released networks know neither synonyms nor background words."""
    known = class_list(SLOTTED.get(classes, classes))
    return ClassList(names=known.names, synonyms=((),) * len(known.names), background_words=())
