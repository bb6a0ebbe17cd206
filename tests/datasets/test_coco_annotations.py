"""Instance annotations to tags and masks: order, overlap, crowds, polygons and run lengths, each counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from weakclip.datasets.coco_annotations import AnnotatedImage, rasterize, read_instances, render_mask, short_id
from weakclip.datasets.coco_classes import CLASS_NAMES, SLOTS
from weakclip.errors import WeakClipError
from weakclip.seeding import rng

CATEGORIES = [{"id": SLOTS[1 + position], "name": name} for position, name in enumerate(CLASS_NAMES)]
HEIGHT, WIDTH = 4, 6


def rectangle(left: int, top: int, right: int, bottom: int) -> list[int]:
    """The polygon around the pixels from left to right - 1 and from top to bottom - 1."""
    return [left, top, right, top, right, bottom, left, bottom]


def columns(first: int, count: int) -> dict[str, Any]:
    """Uncompressed run lengths, which go down the columns, of whole columns."""
    runs = [HEIGHT * first, HEIGHT * count, HEIGHT * (WIDTH - first - count)]
    return {"size": [HEIGHT, WIDTH], "counts": runs}


def write(path: Path, *objects: tuple[int, Any], **more: Any) -> Path:
    """A file with one image of 4 x 6 pixels and its objects: category and segmentation."""
    document = {
        "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {"id": 1 + number, "image_id": 9, "category_id": category, "segmentation": segmentation, "iscrowd": crowd}
            for number, (category, segmentation, crowd) in enumerate((c, s, int("counts" in s)) for c, s in objects)
        ],
        "categories": CATEGORIES,
    }
    path.write_text(json.dumps(document | more))
    return path


def render(tmp_path: Path, *objects: tuple[int, Any]) -> list[list[int]]:
    return render_mask(read_instances(write(tmp_path / "i.json", *objects))["000000000009"]).tolist()


def test_the_first_object_keeps_the_pixels_where_objects_overlap(tmp_path: Path) -> None:
    first, second = (18, [rectangle(0, 0, 3, 2)]), (13, [rectangle(2, 1, 5, 4)])  # dog, stop sign
    assert render(tmp_path, first, second) == [
        [17, 17, 17, 0, 0, 0],
        [17, 17, 17, 12, 12, 0],
        [0, 0, 12, 12, 12, 0],
        [0, 0, 12, 12, 12, 0],
    ]
    assert render(tmp_path, second, first) == [
        [17, 17, 17, 0, 0, 0],
        [17, 17, 12, 12, 12, 0],
        [0, 0, 12, 12, 12, 0],
        [0, 0, 12, 12, 12, 0],
    ]


def test_an_object_of_several_polygons_is_their_union(tmp_path: Path) -> None:
    parts = [rectangle(0, 0, 1, 4), rectangle(4, 0, 6, 1), rectangle(0, 2, 2, 3)]
    assert render(tmp_path, (90, parts)) == [[80, 0, 0, 0, 80, 80], [80] + [0] * 5, [80, 80, 0, 0, 0, 0], [80] + [0] * 5]


def test_crowds_are_objects_like_others_and_go_down_the_columns(tmp_path: Path) -> None:
    assert render(tmp_path, (1, columns(1, 2)), (2, [rectangle(0, 0, 6, 1)])) == [[2, 1, 1, 2, 2, 2], *[[0, 1, 1, 0, 0, 0]] * 3]
    uneven = {"size": [HEIGHT, WIDTH], "counts": [3, 2, 19]}  # the last pixel of column 0, the first of column 1
    assert render(tmp_path, (1, uneven)) == [[0, 1, 0, 0, 0, 0], [0] * 6, [0] * 6, [1, 0, 0, 0, 0, 0]]


def test_compressed_run_lengths_are_read(tmp_path: Path) -> None:
    # 4, 8, 12 as COCO writes them: a character a run from "0" on, as long as runs are below 16
    assert render(tmp_path, (1, {"size": [HEIGHT, WIDTH], "counts": "48<"})) == [[0, 1, 1, 0, 0, 0]] * HEIGHT


def test_compressed_run_lengths_of_any_mask_are_read(tmp_path: Path) -> None:
    draw = rng("run lengths")
    for height, width, share in ((1, 1, 1), (300, 200, 0.5), (300, 200, 0.01), (64, 2000, 0)):
        mask = np.asfortranarray(np.cumsum(draw.random((height, width)) < share, axis=0) % 2, dtype=np.uint8)
        runs = {"size": [height, width], "counts": run_lengths.encode(mask)["counts"].decode()}
        np.testing.assert_array_equal(rasterize(AnnotatedImage("a", height, width, ()), runs), mask.astype(bool))


def test_a_category_that_is_no_class_is_ignored_by_losses_and_figures(tmp_path: Path) -> None:
    path = write(tmp_path / "i.json", (12, [rectangle(0, 0, 2, 4)]), (1, [rectangle(0, 0, 3, 4)]))
    image = read_instances(path)["000000000009"]
    assert render_mask(image).tolist() == [[255, 255, 1, 0, 0, 0]] * HEIGHT
    assert image.tags == (1,)


def test_tags_are_the_categories_and_need_no_pixels(tmp_path: Path) -> None:
    objects = [(18, [rectangle(0, 0, 6, 4)]), (1, [rectangle(0, 0, 1, 1)]), (18, columns(0, 1)), (44, [])]
    image = read_instances(write(tmp_path / "i.json", *objects))["000000000009"]
    assert image.tags == (1, 17, 40)
    assert set(np.unique(render_mask(image))) == {17}


def draw_object(draw: np.random.Generator, height: int, width: int) -> tuple[int, Any]:
    """A category, perhaps one that is no class, with a crowd of random runs or some polygons with corners between pixels."""
    category = int(draw.choice([*SLOTS[1:], 12, 91]))
    if draw.random() < 0.3:
        places = np.sort(draw.choice(height * width + 1, 6, replace=False))
        return category, {"size": [height, width], "counts": np.diff([0, *places, height * width]).tolist()}
    corners = [draw.uniform(-1, (width + 1, height + 1), (draw.integers(3, 7), 2)) for _ in range(draw.integers(1, 4))]
    return category, [polygon.round(2).ravel().tolist() for polygon in corners]


def converted(objects: list[tuple[int, Any]], height: int, width: int) -> np.ndarray:
    """The released converter's rule: one object after the other, each on the pixels where there is nothing yet."""
    mask = np.zeros((height, width), np.uint8)
    for category, segmentation in objects:
        encoded = run_lengths.frPyObjects(segmentation, height, width)
        covered = run_lengths.decode(encoded if isinstance(encoded, list) else [encoded]).sum(axis=2) > 0
        number = 1 + SLOTS[1:].index(category) if category in SLOTS[1:] else 255
        mask[(mask == 0) & covered] = number
    return mask


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_images_of_many_objects_come_out_as_from_the_released_converter(tmp_path: Path) -> None:
    draw = rng(0, "coco objects")
    sizes = {number: (int(draw.integers(9, 30)), int(draw.integers(9, 30))) for number in range(1, 21)}
    objects = [(number, draw_object(draw, *sizes[number])) for number in draw.integers(1, 21, 160).tolist()]
    path = write(
        tmp_path / "i.json",
        images=[
            {"id": number, "file_name": f"COCO_val2014_{number:012}.jpg", "height": height, "width": width}
            for number, (height, width) in sizes.items()
        ],
        annotations=[
            {"id": 500 - place, "image_id": number, "category_id": category, "segmentation": drawn, "iscrowd": place % 2}
            for place, (number, (category, drawn)) in enumerate(objects)
        ],
    )
    images = read_instances(path)
    assert len(images) == len(sizes)
    for number, size in sizes.items():
        expected = converted([found for image, found in objects if image == number], *size)
        assert np.array_equal(render_mask(images[f"{number:012}"]), expected), number


def test_ids_are_those_of_the_released_lists() -> None:
    assert short_id("COCO_val2014_000000000042.jpg") == short_id("000000000042.jpg") == short_id("000000000042")


def test_what_is_no_segmentation_is_named(tmp_path: Path) -> None:
    for segmentation in ([[1, 2]], {"size": [4, 6], "counts": None}, [{"x": 1}]):
        with pytest.raises(WeakClipError, match="000000000009 has a segmentation that is none"):
            render(tmp_path, (1, segmentation))
    with pytest.raises(WeakClipError, match="runs of 20 of 24 pixels"):
        render(tmp_path, (1, {"size": [HEIGHT, WIDTH], "counts": [4, 8, 8]}))
    for runs, problem in (
        ("48", "runs of 12 of 24"),
        ("48<0PPP", "cut off"),
        ([3.5, 20.5], "no numbers"),
        ([-4, 28], "no numb"),
    ):
        with pytest.raises(WeakClipError, match=problem):
            render(tmp_path, (1, {"size": [HEIGHT, WIDTH], "counts": runs}))
    with pytest.raises(WeakClipError, match="of 6 x 4 pixels has a segmentation of 4 x 6"):
        render(tmp_path, (1, {"size": [6, 4], "counts": [0, 24]}))


def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "i.json"
    with pytest.raises(WeakClipError, match=r"i\.json is missing"):
        read_instances(path)
    path.write_text('{"images": [')
    with pytest.raises(WeakClipError, match=r"i\.json holds no instance annotations"):
        read_instances(path)
    path.write_text("[]")
    with pytest.raises(WeakClipError, match=r"i\.json holds no instance annotations"):
        read_instances(path)
    with pytest.raises(WeakClipError, match="category 18 is 'wolf'; that id is 'dog'"):
        read_instances(write(path, categories=[{"id": 18, "name": "wolf"}]))
    with pytest.raises(WeakClipError, match="category 12 is 'street sign'; that id is no category of COCO"):
        read_instances(write(path, categories=[{"id": 12, "name": "street sign"}]))
    twice = [{"id": n, "file_name": "x_1.jpg", "height": 1, "width": 1} for n in (1, 2)]
    with pytest.raises(WeakClipError, match="1 images have the id of another one"):
        read_instances(write(path, images=twice, annotations=[]))


def test_numbers_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    images = [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "height": float("inf"), "width": 6}]
    with pytest.raises(WeakClipError, match=r"i\.json holds no instance annotations"):
        read_instances(write(tmp_path / "i.json", images=images))


@pytest.mark.parametrize("far", [1e9, -1e9, 1e300, float("nan"), float("inf")])
def test_corners_far_outside_are_refused_before_pycocotools_walks_there(tmp_path: Path, far: float) -> None:
    with pytest.raises(WeakClipError, match=r"000000000009 .* far outside"):
        render(tmp_path, (1, [[0, 0, far, 0, far, far]]))
    render(tmp_path, (1, [[-1.5, 0, WIDTH + 0.5, 0, WIDTH, HEIGHT]]))


def test_sizes_that_no_picture_has_are_refused_before_room_is_made_for_them(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"has a segmentation of 1048576 x 1048576"):
        render(tmp_path, (1, {"size": [1 << 20, 1 << 20], "counts": "48<"}))
    for height, width in ((0, 6), (-1, 6), (1 << 20, 1 << 20)):
        images = [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "height": height, "width": width}]
        with pytest.raises(WeakClipError, match=rf"i\.json: image 000000000009 is {width} x {height} pixels"):
            read_instances(write(tmp_path / "i.json", images=images))


def test_lists_in_lists_without_end_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "i.json").write_text("[" * 100_000)
    with pytest.raises(WeakClipError, match=r"i\.json holds no instance annotations"):
        read_instances(tmp_path / "i.json")
