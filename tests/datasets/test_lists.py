"""Lists of images, an image a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from weakclip.datasets.lists import read_ids, read_tagged_ids, write_ids, write_tagged_ids
from weakclip.errors import WeakClipError


def test_a_line_is_an_id_or_the_paths_of_photo_and_mask(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("2007_000032\n\n/JPEGImages/2007_000039.jpg /SegmentationClassAug/2007_000039.png\r\nv1.2\n2007_000032\n")
    assert read_ids(path) == ["2007_000032", "2007_000039", "v1.2"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_ids(tmp_path / "list.txt", ["b", "a"])
    assert (tmp_path / "list.txt").read_bytes() == b"b\na\n"
    assert read_ids(tmp_path / "list.txt") == ["b", "a"]


def test_numbers_after_an_image_are_its_classes_counted_from_0(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("COCO_train2014_000000000009 49 45 45\nCOCO_train2014_000000000025 0\nCOCO_train2014_000000000030\n")
    assert read_tagged_ids(path, num_classes=81) == {
        "COCO_train2014_000000000009": (46, 50),
        "COCO_train2014_000000000025": (1,),
        "COCO_train2014_000000000030": (),
    }


def test_written_tags_are_read_again(tmp_path: Path) -> None:
    tags = {"b": (3, 80), "a": ()}
    write_tagged_ids(tmp_path / "train.txt", tags)
    assert (tmp_path / "train.txt").read_text() == "b 2 79\na\n"
    assert read_tagged_ids(tmp_path / "train.txt", num_classes=81) == tags


def test_what_is_no_class_number_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("a 3\nb 80\nc -1\nd cat\n")
    with pytest.raises(WeakClipError) as caught:
        read_tagged_ids(path, num_classes=81)
    assert "line 2: '80' is no class number; they go from 0 to 79" in caught.value.problem
    assert "line 3: '-1'" in caught.value.problem and "line 4: 'cat'" in caught.value.problem
