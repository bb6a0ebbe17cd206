"""The 80 classes of COCO, numbered 1..80 here, and the 91 slots that the released WeakCLIP numbers them by.

COCO's category ids run from 1 to 90 with ten gaps. The released code names the gaps too, so that its class is the category id
(0 is the background); its own converter of the annotations numbers the 80 used categories without gaps, as this project does.
The two agree up to class 11. Masks and checkpoints of the released code are therefore renumbered where they are read or
written, and nowhere else.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.index import ClassList
from weakclip.masks import IGNORE

CLASS_NAMES: Final = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
UNUSED_SLOTS: Final = {
    12: "street sign", 26: "hat", 29: "shoe", 30: "eye glasses", 45: "plate",
    66: "mirror", 68: "window", 69: "desk", 71: "door", 83: "blender",
}  # fmt: skip
SLOTS: Final = (0, *(slot for slot in range(1, 91) if slot not in UNUSED_SLOTS))
"""The slot of each of the 81 classes, background first; for a class, COCO's category id."""
CLASS_OF_CATEGORY: Final = {slot: index for index, slot in enumerate(SLOTS) if index}
"""The class 1..80 of each category id."""
SLOT_NAMES: Final = tuple(
    UNUSED_SLOTS.get(slot) or ("background", *CLASS_NAMES)[SLOTS.index(slot)] for slot in range(len(SLOTS) + len(UNUSED_SLOTS))
)
"""The 91 names of the released code, background first."""

# What the object is commonly called beside its name.
SYNONYMS: Final = {
    "person": ("people", "human"),
    "bicycle": ("bike",),
    "motorcycle": ("motorbike",),
    "airplane": ("aeroplane", "plane"),
    "cat": ("kitten",),
    "dog": ("puppy",),
    "handbag": ("purse",),
    "tie": ("necktie",),
    "donut": ("doughnut",),
    "couch": ("sofa",),
    "potted plant": ("houseplant",),
    "tv": ("television", "monitor"),
    "remote": ("remote control",),
    "cell phone": ("mobile phone",),
    "refrigerator": ("fridge",),
    "hair drier": ("hair dryer",),
}
BACKGROUND_WORDS: Final = (
    "ground", "land", "grass", "tree", "building", "wall", "sky", "lake",
    "water", "river", "sea", "railway", "railroad", "helmet", "cloud", "house",
    "mountain", "ocean", "road", "rock", "street", "valley", "bridge",
)  # fmt: skip
CLASSES: Final = ClassList(
    names=CLASS_NAMES,
    synonyms=tuple(SYNONYMS.get(name, ()) for name in CLASS_NAMES),
    background_words=BACKGROUND_WORDS,
)
SLOT_CLASSES: Final = ClassList(names=SLOT_NAMES[1:], synonyms=((),) * (len(SLOT_NAMES) - 1), background_words=())


def from_slots(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask of the released code, (H, W) uint8 of slots 0..90 and 255, in this project's classes 0..80 and 255.

    A slot that no category has, which only a stray prediction holds, becomes 255. Raises ValueError for 91..254.
    """
    if (mask[mask != IGNORE] >= len(SLOT_NAMES)).any():
        raise ValueError(f"expected slots 0 to {len(SLOT_NAMES) - 1} or {IGNORE}, got {mask[mask != IGNORE].max()}")
    table = np.full(256, IGNORE, np.uint8)
    table[list(SLOTS)] = np.arange(len(SLOTS))
    return table[mask]


def to_slots(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask of this project, (H, W) uint8 of classes 0..80 and 255, in the released code's slots.

    Raises ValueError for 81..254.
    """
    if (mask[mask != IGNORE] >= len(SLOTS)).any():
        raise ValueError(f"expected classes 0 to {len(SLOTS) - 1} or {IGNORE}, got {mask[mask != IGNORE].max()}")
    table = np.full(256, IGNORE, np.uint8)
    table[: len(SLOTS)] = SLOTS
    return table[mask]
