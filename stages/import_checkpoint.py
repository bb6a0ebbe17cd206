"""Bring a checkpoint of the released code into this project's format.

Reads:  a ``.pth`` file.
Writes: a folder such as ``data/weakclip`` (weights and card).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from weakclip.datasets import voc12
from weakclip.datasets.index import ClassList
from weakclip.datasets.labels import read_classes
from weakclip.deeplab.released import import_deeplab, is_released_deeplab
from weakclip.errors import WeakClipError
from weakclip.progress import say
from weakclip.released.checkpoint import import_checkpoint
from weakclip.released.coco_slots import SLOTS

KNOWN: Final = {"voc12": voc12.CLASS_NAMES, "coco14": SLOTS}


def main(file: Path, classes: str, out: Path) -> None:
    """Import the checkpoint, and say what of it is not used."""
    names = class_list(classes)
    if is_released_deeplab(file):
        imported = import_deeplab(file, names, out)
        used, unused, use = imported.used, imported.unused, f"python -m stages.evaluate --deeplab {out}"
    else:
        weakclip = import_checkpoint(file, names, out)
        used, unused, use = weakclip.used, weakclip.unused, f"python -m stages.generate_masks --weakclip {out}"
    say(f"{out} holds {used} of {used + len(unused)} tensors of {file}")
    if unused:
        say(f"  not used, since they never influence anything: {', '.join(unused)}")
    say(f"  `{use}` makes masks with it")


def class_list(name: str) -> ClassList:
    """The classes of a benchmark's checkpoints, or those of a file."""
    if name in KNOWN:
        return ClassList(names=KNOWN[name], synonyms=((),) * len(KNOWN[name]), background_words=())
    path = Path(name)
    if not path.is_file():
        raise WeakClipError(f"{name} is neither a list of classes that is known nor a file", f"there are: {', '.join(KNOWN)}")
    return read_classes(path)
