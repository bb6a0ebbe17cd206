import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.export.conftest import CLASSES
from weakclip.datasets import coco_classes
from weakclip.export.coco import Segmentation, as_polygons, as_run_lengths, write_coco
from weakclip.export.masked_photos import MaskedPhoto

# pycocotools 2.0.11 decodes masks in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def write(masked: list[MaskedPhoto], tmp_path: Path, segmentation: Segmentation) -> COCO:
    counts = write_coco(iter(masked), CLASSES, tmp_path / "photos", tmp_path / "coco.json", segmentation)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "coco.json"))
    assert counts == {"images": len(coco.imgs), "annotations": len(coco.anns)}
    return coco


def test_cocos_own_classes_and_images_have_cocos_own_numbers(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    classes = coco_classes.CLASSES
    names = ("000000000009", "000000581929", "000000000025")
    photos = [
        MaskedPhoto(replace(photo.record, image_id=name), np.where(photo.mask == 3, 80, photo.mask).astype(np.uint8))
        for name, photo in zip(names, masked, strict=True)
    ]
    out = tmp_path / "coco.json"
    write_coco(iter(photos), classes, tmp_path / "photos", out, as_run_lengths, images_of_coco=True)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(out))
    assert list(coco.imgs) == [9, 581929, 25] and coco.getCatIds() == [*coco_classes.CLASS_OF_CATEGORY]
    assert [row["name"] for row in coco.loadCats([1, 13, 90])] == ["person", "stop sign", "toothbrush"]
    for number, photo in zip((9, 581929), photos, strict=False):
        mask = np.zeros_like(photo.mask)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=number)):
            mask[coco.annToMask(row).astype(bool)] = coco_classes.CLASS_OF_CATEGORY[row["category_id"]]
        assert np.array_equal(mask, np.where(photo.mask == 255, 0, photo.mask))
    assert {row["category_id"] for row in coco.anns.values()} == {1, 2, 90}


def masks(coco: COCO) -> dict[str, np.ndarray]:
    """The masks by file name, drawn by pycocotools."""
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask[coco.annToMask(row).astype(bool)] = row["category_id"]
        found[image["file_name"]] = mask
    return found


def test_run_lengths_are_the_masks_pixel_by_pixel(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    coco = write(masked, tmp_path, as_run_lengths)
    assert [row["name"] for row in coco.loadCats([1, 2, 3])] == list(CLASSES.names)
    found = masks(coco)
    assert list(found) == ["a.jpg", "more/b.jpg", "more/c ü.png"]
    for photo, mask in zip(masked, found.values(), strict=True):
        assert np.array_equal(mask, np.where(photo.mask == 255, 0, photo.mask))


def test_boxes_and_areas_are_those_of_the_pixels(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    coco = write(masked, tmp_path, as_run_lengths)
    for row in coco.anns.values():
        y, x = np.nonzero(coco.annToMask(row))
        assert row["area"] == len(y)
        assert row["bbox"] == [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]


def test_polygons_are_nearly_the_masks(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    for photo, mask in zip(masked, masks(write(masked, tmp_path, as_polygons)).values(), strict=True):
        for index in (1, 2, 3):
            union = ((mask == index) | (photo.mask == index)).sum()
            assert not union or ((mask == index) & (photo.mask == index)).sum() / union > 0.93


@pytest.mark.parametrize("segmentation", [as_run_lengths, as_polygons])
def test_cocoeval_finds_the_objects_in_themselves(
    masked: list[MaskedPhoto], tmp_path: Path, segmentation: Segmentation, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = write(masked, tmp_path, segmentation)
    results = coco.loadRes([{**row, "score": 1.0} for row in coco.anns.values()])
    evaluation = COCOeval(coco, results, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)  # not -1, which it is where all objects are crowds


def test_the_same_masks_give_the_same_bytes(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        write_coco(iter(masked), CLASSES, tmp_path / "photos", tmp_path / name, as_polygons)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
