"""VOC 2012 with SBD, in the layout of the archives."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakclip.datasets.index import Collection
from weakclip.datasets.tag_vectors import write_tag_vectors
from weakclip.datasets.voc12 import BACKGROUND_WORDS, CLASS_NAMES, SYNONYMS, read_voc12
from weakclip.errors import WeakClipError
from weakclip.masks import write_mask

TAGS = {"2007_1": ["person", "dog"], "2007_2": ["cat"], "2008_3": ["tvmonitor"], "2008_4": ["aeroplane"], "2009_5": []}


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")


def annotation(names: list[str]) -> str:
    part = "<part><name>head</name></part>"
    return (
        f"<annotation>{''.join(f'<object><name>{n}</name><difficult>1</difficult>{part}</object>' for n in names)}</annotation>"
    )


def mask(root: Path, folder: str, name: str, index: int) -> None:
    (root / folder).mkdir(exist_ok=True)
    values = np.full((10, 12), 255, dtype=np.uint8)
    values[2:], values[5:] = 0, index
    write_mask(root / folder / f"{name}.png", values)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """The VOC2012 folder: train 1 and 2, trainaug 1, 2 and 3, val 4 and 5; masks of 1 and 4, of 3 from SBD."""
    root = tmp_path / "raw" / "photos" / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, tags in TAGS.items():
        Image.new("RGB", (12, 10), "teal").save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(annotation(tags + tags))
    Image.new("RGB", (12, 10)).save(root / "JPEGImages" / "test_only.jpg")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_2\n2007_1\n")
    (lists / "trainaug.txt").write_text("2007_1\n2007_2\n2008_3\n")
    (lists / "val.txt").write_text("2008_4\n2009_5\n")
    for name, index in (("2007_1", 15), ("2008_4", 1)):
        mask(root, "SegmentationClass", name, index)
    mask(root, "SegmentationClassAug", "2008_3", 20)
    return root


def read(devkit: Path, *, tags_from: str = "xml", on_error: str = "stop") -> Collection:
    return read_voc12(devkit.parents[2], tags_from=tags_from, on_error=on_error)


def problem(devkit: Path, **settings: str) -> str:
    with pytest.raises(WeakClipError) as info:
        read(devkit, **settings)
    return info.value.problem


def tags(collection: Collection) -> dict[str, list[str]]:
    names = collection.dataset.classes.with_background
    return {record.image_id: [names[tag] for tag in record.tags] for record in collection.dataset.records}


def test_the_classes_are_the_official_twenty_in_order() -> None:
    assert len(CLASS_NAMES) == 20 and list(CLASS_NAMES) == sorted(CLASS_NAMES)
    assert CLASS_NAMES[14] == "person"
    words = [*CLASS_NAMES, *BACKGROUND_WORDS, *(word for synonyms in SYNONYMS.values() for word in synonyms)]
    assert len(words) == len(set(words))
    assert SYNONYMS.keys() <= set(CLASS_NAMES)


def test_train_trainaug_and_val_are_kept_apart(devkit: Path) -> None:
    dataset = read(devkit).dataset
    assert dataset.name == "voc12" and dataset.classes.num_classes == 21
    found = {record.image_id: record.split for record in dataset.records}
    assert found == {"2007_1": "train", "2007_2": "train", "2008_3": "trainaug", "2008_4": "val", "2009_5": "val"}


def test_without_trainaug_there_is_only_train(devkit: Path) -> None:
    (devkit / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    assert [record.image_id for record in read(devkit).dataset.training] == ["2007_1", "2007_2"]


def test_lists_of_photo_and_mask_paths_are_read(devkit: Path) -> None:
    lines = "/JPEGImages/2008_3.jpg /SegmentationClassAug/2008_3.png\r\n"
    (devkit / "ImageSets" / "Segmentation" / "trainaug.txt").write_text(lines)
    assert [record.split for record in read(devkit).dataset.training] == ["train", "train", "trainaug"]


def test_an_image_of_val_is_never_trained_on(devkit: Path) -> None:
    with (devkit / "ImageSets" / "Segmentation" / "trainaug.txt").open("a") as file:
        file.write("2008_4\n")
    assert "1 images of val are in train or trainaug as well (first: 2008_4)" in problem(devkit)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_root_may_be_the_devkit_its_parent_or_the_year(devkit: Path, depth: int, tmp_path: Path) -> None:
    raw = tmp_path / "linked"
    raw.mkdir()
    if depth < 3:
        (raw / "photos").symlink_to((devkit, *devkit.parents)[depth], target_is_directory=True)
    else:
        shutil.copytree(devkit.parent, raw / "VOCdevkit")
    assert len(read_voc12(raw, tags_from="xml", on_error="stop").dataset.records) == 5


def test_without_jpegimages_there_is_a_hint(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match="holds no VOC 2012") as info:
        read_voc12(tmp_path, tags_from="xml", on_error="stop")
    assert "VOCtrainval" in info.value.hint


def test_masks_of_sbd_go_before_the_official_ones_and_may_be_missing(devkit: Path) -> None:
    mask(devkit, "SegmentationClassAug", "2007_1", 12)
    found = {record.image_id: record.mask and Path(record.mask).parent.name for record in read(devkit).dataset.records}
    assert found["2007_1"] == "SegmentationClassAug" and found["2008_4"] == "SegmentationClass"
    assert found["2007_2"] is None and found["2009_5"] is None


def test_tags_are_the_objects_of_the_annotations_without_their_parts(devkit: Path) -> None:
    collection = read(devkit)
    assert tags(collection) == TAGS | {"2007_1": ["dog", "person"]}
    assert collection.notes == ()


def test_an_annotation_that_is_missing_broken_or_of_other_classes_is_named(devkit: Path) -> None:
    (devkit / "Annotations" / "2007_1.xml").write_text("<annotation>")
    (devkit / "Annotations" / "2007_2.xml").write_text(annotation(["unicorn"]))
    found = problem(devkit)
    assert "2007_1.xml is not XML" in found and "2007_2.xml names 'unicorn', which is none of the 20 classes" in found
    (devkit / "Annotations" / "2008_3.xml").write_text(annotation([]))
    (devkit / "Annotations" / "2007_1.xml").unlink()
    (devkit / "Annotations" / "2007_2.xml").write_text(annotation(["cat"]))
    assert "2 images cannot be used" in problem(devkit)
    collection = read(devkit, on_error="skip")
    assert [record.image_id for record in collection.dataset.training] == ["2007_2"]
    assert len(collection.skipped) == 2
    os.mkfifo(devkit / "Annotations" / "2007_1.xml")
    assert "2007_1.xml is no file" in problem(devkit)


def vectors() -> dict[str, np.ndarray]:
    return {name: np.isin(CLASS_NAMES, found).astype(np.float32) for name, found in TAGS.items()}


@pytest.mark.parametrize("folder", ["VOC2012", "photos"])
def test_tags_of_a_pickled_dictionary_agree_with_the_annotations(devkit: Path, folder: str) -> None:
    place = {"VOC2012": devkit, "photos": devkit.parents[1]}[folder]
    np.save(place / "cls_labels.npy", np.array(vectors(), dtype=object), allow_pickle=True)
    shutil.rmtree(devkit / "Annotations")
    assert tags(read(devkit, tags_from="npy")) == TAGS | {"2007_1": ["dog", "person"]}


@pytest.mark.parametrize("name", [lambda image_id: f"{image_id}.jpg", lambda image_id: int(image_id.replace("_", ""))])
def test_vectors_are_found_by_the_names_of_mctformer_and_irn(devkit: Path, name: Callable[[str], object]) -> None:
    named = {name(image_id): vector for image_id, vector in vectors().items()}
    np.save(devkit / "cls_labels.npy", np.array(named, dtype=object), allow_pickle=True)
    assert tags(read(devkit, tags_from="npy")) == TAGS | {"2007_1": ["dog", "person"]}


def test_written_vectors_are_read_again(devkit: Path) -> None:
    dataset = read(devkit).dataset
    write_tag_vectors(devkit / "cls_labels.npy", dataset.records, dataset.classes.num_classes)
    assert read(devkit, tags_from="npy").dataset.records == dataset.records


@pytest.mark.parametrize("wrong", [np.zeros(21), np.full(20, 2.0), np.full(20, "x"), np.full(20, np.nan), {}, "cat"])
def test_vectors_of_other_lengths_or_values_are_refused(devkit: Path, wrong: object) -> None:
    np.save(devkit / "cls_labels.npy", np.array(vectors() | {"2007_1": wrong}, dtype=object), allow_pickle=True)
    assert "cls_labels.npy does not hold 20 zeros and ones for 2007_1" in problem(devkit, tags_from="npy")


def test_tags_may_come_from_a_table(devkit: Path) -> None:
    (devkit / "tags.csv").write_text("image,tags\n2007_1.jpg,cat\n2007_2,dog;person\n2008_3,bus\n")
    assert list(tags(read(devkit, tags_from="csv")).values()) == [["cat"], ["dog", "person"], ["bus"], [], []]


@pytest.mark.parametrize(("tags_from", "file"), [("csv", "tags.csv"), ("npy", "cls_labels.npy"), ("xml", "Annotations")])
def test_a_missing_source_of_tags_is_named(devkit: Path, tags_from: str, file: str) -> None:
    shutil.rmtree(devkit / "Annotations")
    assert f"{file} is missing" in problem(devkit, tags_from=tags_from)


@pytest.mark.parametrize("tags_from", ["json", "lines"])
def test_sources_of_tags_that_only_coco_has_are_refused(devkit: Path, tags_from: str) -> None:
    assert f"dataset.tags_from is {tags_from}, which VOC does not have" in problem(devkit, tags_from=tags_from)


def test_tags_come_from_masks_only_when_asked_and_then_it_is_said(devkit: Path) -> None:
    mask(devkit, "SegmentationClass", "2007_2", 8)
    collection = read(devkit, tags_from="masks")
    assert tags(collection)["2007_1"] == ["person"]
    assert "ground-truth masks" in collection.notes[0]


def test_missing_photos_are_counted_or_left_out(devkit: Path) -> None:
    (devkit / "JPEGImages" / "2007_2.jpg").unlink()
    assert problem(devkit) == f"{devkit / 'JPEGImages'} is missing 1 of 5 images (first: 2007_2.jpg)"
    collection = read(devkit, on_error="skip")
    assert [record.image_id for record in collection.dataset.training] == ["2007_1", "2008_3"]
    assert collection.skipped[0].reason.endswith("2007_2.jpg is missing")
