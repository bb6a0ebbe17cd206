"""COCO 2014 in the official layout and in that of the released code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.datasets.test_coco_annotations import CATEGORIES, rectangle
from weakclip.datasets.coco14 import read_coco14
from weakclip.datasets.index import Collection
from weakclip.datasets.pickled import write_pickled_dictionary
from weakclip.errors import WeakClipError
from weakclip.masks import read_mask, write_mask

HEIGHT, WIDTH = 8, 10
OBJECTS: dict[str, dict[int, list[tuple[int, Any]]]] = {
    "train": {
        9: [(18, [rectangle(0, 0, 3, 8)]), (13, {"size": [8, 10], "counts": [16, 16, 48]})],
        25: [(90, [rectangle(0, 0, 10, 1)])],
        30: [],
    },
    "val": {42: [(1, [rectangle(0, 0, 1, 4)])], 73: []},
}
TAGS = {"000000000009": (12, 17), "000000000025": (80,), "000000000042": (1,), "000000000073": ()}


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """The official archives, unpacked: photos 9, 25 and 30 of train (30 without objects), 42 and 73 of val (73 without)."""
    root = tmp_path / "raw" / "photos"
    (root / "annotations").mkdir(parents=True)
    for split, images in OBJECTS.items():
        (root / f"{split}2014").mkdir()
        names = {number: f"COCO_{split}2014_{number:012d}.jpg" for number in images}
        for name in names.values():
            Image.new("RGB", (WIDTH, HEIGHT), "teal").save(root / f"{split}2014" / name)
        document = {
            "images": [{"id": n, "file_name": name, "height": HEIGHT, "width": WIDTH} for n, name in names.items()],
            "annotations": [
                {"id": 1000 * n + k, "image_id": n, "category_id": category, "segmentation": segmentation}
                for n, objects in images.items()
                for k, (category, segmentation) in enumerate(objects)
            ],
            "categories": CATEGORIES,
        }
        (root / "annotations" / f"instances_{split}2014.json").write_text(json.dumps(document))
    return root


def read(coco: Path, *, tags_from: str = "json", on_error: str = "stop") -> Collection:
    raw = coco.parent
    folder = raw.parent / "slot" / "dataset"
    shutil.rmtree(folder, ignore_errors=True)
    return read_coco14(raw, folder, final=Path("data/dataset"), tags_from=tags_from, on_error=on_error)


def tags(collection: Collection) -> dict[str, tuple[int, ...]]:
    return {record.image_id: record.tags for record in collection.dataset.records}


def problem(coco: Path, **settings: str) -> str:
    with pytest.raises(WeakClipError) as info:
        read(coco, **settings)
    return info.value.problem


def lists(coco: Path, **content: str) -> None:
    (coco / "voc_format").mkdir(exist_ok=True)
    for name, text in content.items():
        (coco / "voc_format" / f"{name}.txt").write_text(text)


def test_tags_splits_and_masks_come_from_the_annotations(coco: Path) -> None:
    collection = read(coco)
    dataset = collection.dataset
    assert dataset.name == "coco14" and dataset.classes.num_classes == 81
    assert tags(collection) == TAGS
    assert [record.split for record in dataset.records] == ["train", "train", "val", "val"]
    assert {record.mask for record in dataset.records} == {f"data/dataset/masks/{image_id}.png" for image_id in TAGS}
    rendered = read_mask(coco.parents[1] / "slot" / "dataset" / "masks" / "000000000009.png")
    assert rendered.tolist() == [[17, 17, 17, 12, *[0] * 6]] * HEIGHT


def test_training_photos_without_a_class_are_left_out_and_counted(coco: Path) -> None:
    collection = read(coco)
    assert collection.notes == ("photos of train that have none of the 80 classes and are left out: 1",)
    assert collection.skipped == ()


def test_the_layout_of_the_released_code_is_read(coco: Path) -> None:
    (coco / "COCO14" / "images").mkdir(parents=True)
    for path in sorted(coco.glob("*2014/*.jpg")):
        shutil.move(path, coco / "COCO14" / "images" / path.name.rsplit("_", 1)[-1])
    shutil.move(coco / "annotations", coco / "COCO14" / "annotations")
    lists(coco / "COCO14", train="000000000009\n000000000025\n000000000030\n", val="000000000042\n")
    collection = read(coco)
    assert tags(collection) == {image_id: TAGS[image_id] for image_id in ("000000000009", "000000000025", "000000000042")}
    assert all(Path(record.photo).parent.name == "images" for record in collection.dataset.records)


def test_val_5000_is_val_where_there_is_no_whole_list_and_it_is_said(coco: Path) -> None:
    lists(coco, val_5000="000000000073\n")
    collection = read(coco)
    assert [record.image_id for record in collection.dataset.val] == ["000000000073"]
    assert "val_5000.txt" in collection.notes[-1]
    lists(coco, val="000000000042\n")
    assert [record.image_id for record in read(coco).dataset.val] == ["000000000042"]


def test_without_annotations_the_masks_of_the_converter_are_taken(coco: Path) -> None:
    shutil.rmtree(coco / "annotations")
    lists(coco, train="COCO_train2014_000000000009 11 16\n000000000025 79\n", val="COCO_val2014_000000000042 0\n")
    (coco / "voc_format" / "class_labels").mkdir()
    mask = np.full((HEIGHT, WIDTH), 17, np.uint8)
    write_mask(coco / "voc_format" / "class_labels" / "000000000009.png", mask)
    collection = read(coco, tags_from="lines")
    assert tags(collection) == {image_id: TAGS[image_id] for image_id in ("000000000009", "000000000025", "000000000042")}
    masks = [record.mask for record in collection.dataset.records]
    assert masks == [f"{coco}/voc_format/class_labels/000000000009.png", None, None]
    assert "annotations of train are missing" in problem(coco)


@pytest.mark.parametrize("length", [80, 90])
@pytest.mark.parametrize("key", ["000000000009", "COCO_train2014_000000000009", "COCO_train2014_000000000009.jpg", 9])
def test_vectors_of_classes_or_of_category_ids_are_read_by_any_name(coco: Path, length: int, key: str | int) -> None:
    places = {80: [11, 16], 90: [12, 17]}[length]  # stop sign and dog
    vectors = {key: np.zeros(length, np.float32), 25: np.zeros(length), 42: np.zeros(length)}
    vectors[key][places] = 1
    vectors[25][length - 1] = 1
    write_pickled_dictionary(coco / "cls_labels.npy", vectors)
    assert tags(read(coco, tags_from="npy")) == TAGS | {"000000000042": ()}


def test_wrong_vectors_are_named(coco: Path) -> None:
    write_pickled_dictionary(coco / "cls_labels.npy", {9: np.zeros(20), 25: np.eye(90)[11]})
    found = problem(coco, tags_from="npy")
    assert "does not hold 80 or 90 zeros and ones for 000000000009" in found
    assert "sets a place for 000000000025 that belongs to no class" in found


def test_tags_may_come_from_a_table_or_when_asked_from_masks(coco: Path) -> None:
    (coco / "tags.csv").write_text("image,tags\n000000000009,person\n000000000025.jpg,dog;tv\n")
    assert tags(read(coco, tags_from="csv"))["000000000025"] == (17, 63)
    collection = read(coco, tags_from="masks")
    assert tags(collection) == TAGS
    assert "ground-truth masks" in collection.notes[-1]


def test_missing_photos_are_counted_or_left_out(coco: Path) -> None:
    (coco / "val2014" / "COCO_val2014_000000000042.jpg").unlink()
    assert "is missing 1 of 2 photos of val (first: 000000000042.jpg)" in problem(coco)
    collection = read(coco, on_error="skip")
    assert [record.image_id for record in collection.dataset.val] == ["000000000073"]
    assert len(collection.skipped) == 1


def test_an_image_of_val_is_never_trained_on(coco: Path) -> None:
    lists(coco, train="000000000009\n000000000042\n")
    assert "000000000042 is not in the annotations of train" in problem(coco)
    (coco / "cls_labels.npy").unlink(missing_ok=True)
    write_pickled_dictionary(coco / "cls_labels.npy", {n: np.eye(80)[0] for n in (9, 42, 73)})
    assert "1 images of val are in train as well (first: 000000000042)" in problem(coco, tags_from="npy")


def test_what_is_not_there_is_named(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeakClipError, match="holds no COCO 2014"):
        read_coco14(tmp_path / "empty", tmp_path / "slot", final=tmp_path, tags_from="json", on_error="stop")
    assert "dataset.tags_from is xml" in problem(coco, tags_from="xml")
    assert "train.txt is missing" in problem(coco, tags_from="lines")
    assert "cls_labels.npy is missing" in problem(coco, tags_from="npy")


def test_without_val_there_is_only_train(coco: Path) -> None:
    (coco / "annotations" / "instances_val2014.json").unlink()
    assert [record.split for record in read(coco).dataset.records] == ["train", "train"]
