"""COCO's 80 classes and the 91 slots of the released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weakclip.datasets.class_lists import class_list
from weakclip.datasets.coco_classes import (
    BACKGROUND_WORDS,
    CLASS_NAMES,
    CLASS_OF_CATEGORY,
    SLOT_NAMES,
    SLOTS,
    SYNONYMS,
    UNUSED_SLOTS,
    from_slots,
    to_slots,
)
from weakclip.errors import WeakClipError


def test_there_are_80_classes_in_91_slots() -> None:
    assert len(CLASS_NAMES) == 80 and len(SLOTS) == 81 and len(SLOT_NAMES) == 91
    words = [*CLASS_NAMES, *BACKGROUND_WORDS, *(word for synonyms in SYNONYMS.values() for word in synonyms)]
    assert len(words) == len(set(words)) and SYNONYMS.keys() <= set(CLASS_NAMES)


def test_classes_and_slots_part_at_the_stop_sign() -> None:
    assert [SLOTS[index] for index in (0, 1, 11, 12, 80)] == [0, 1, 11, 13, 90]
    assert (SLOT_NAMES[11], SLOT_NAMES[12], SLOT_NAMES[13]) == ("fire hydrant", "street sign", "stop sign")
    assert CLASS_OF_CATEGORY[13] == 12 and CLASS_OF_CATEGORY[90] == 80 and 12 not in CLASS_OF_CATEGORY
    assert all(SLOT_NAMES[SLOTS[1 + position]] == name for position, name in enumerate(CLASS_NAMES))


def test_masks_survive_the_way_to_slots_and_back() -> None:
    mask = np.array([[*range(81), 255]], np.uint8)
    assert set(to_slots(mask).ravel()) == {*SLOTS, 255}
    np.testing.assert_array_equal(from_slots(to_slots(mask)), mask)


def test_a_slot_without_a_class_becomes_unsure() -> None:
    assert (from_slots(np.array([[*UNUSED_SLOTS]], np.uint8)) == 255).all()


def test_numbers_beyond_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="got 91"):
        from_slots(np.array([[91, 255]], np.uint8))
    with pytest.raises(ValueError, match="got 81"):
        to_slots(np.array([[81]], np.uint8))


def test_class_lists_are_named_or_read(tmp_path: Path) -> None:
    assert [class_list(name).num_classes for name in ("voc12", "coco14", "coco91")] == [21, 81, 91]
    with pytest.raises(WeakClipError, match=r"mine\.txt is neither a list of classes that is known nor a file"):
        class_list(f"{tmp_path}/mine.txt")
