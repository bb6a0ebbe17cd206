from pathlib import Path

import numpy as np

from weakclip.image_figures import ImageIds
from weakclip.journal import Journal, journalled, journalled_figures


def test_rows_are_found_again_exactly(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = {"ä b": {"confidence": 0.1 + 0.2, "kept": 3}, "c": {"confidence": 1e-300}}
    journal = Journal(path)
    for image_id, row in rows.items():
        journal.append(image_id, row)
    assert dict(journalled(path)) == rows
    assert journal.finished == set()  # by earlier runs
    assert Journal(path).finished == {"ä b", "c"}


def test_figures_stand_in_the_order_of_the_images_and_the_last_row_of_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    journal = Journal(path)
    for image_id, kept in (("b", 1), ("left out", 9), ("a", 2), ("b", 3)):
        journal.append(image_id, {"confidence": kept / 8, "kept": kept})
    figures = journalled_figures(path, ImageIds(["a", "b", "c"]), ["kept", "confidence"])
    np.testing.assert_array_equal(figures["kept"], [2, 3, np.nan])
    np.testing.assert_array_equal(figures["confidence"], [0.25, 0.375, np.nan])


def test_a_line_that_was_cut_off_is_dropped_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path).append("a", {"x": 1})
    first = path.read_bytes()
    Journal(path).append("b", {"x": 2})
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        Journal(path).append("c", {"x": 3})
        names = {"c"} | ({"a"} if length >= len(first) else set()) | ({"b"} if length == len(whole) else set())
        assert Journal(path).finished == set(dict(journalled(path))) == names
