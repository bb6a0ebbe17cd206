from pathlib import Path

import numpy as np
from PIL import Image

from weakclip.datasets.index import ClassList, Dataset, Record
from weakclip.gallery import (
    SHADE,
    Layer,
    Maps,
    Pictures,
    Ranking,
    blend,
    gallery_images,
    map_layer,
    picture_side,
    spread,
    write_overlay,
    write_pictures,
)
from weakclip.masks import PALETTE, write_mask


def dataset(train: int, val: int) -> Dataset:
    ids = [f"t{number:02d}" for number in range(train)] + [f"v{number:02d}" for number in range(val)]
    records = tuple(
        Record(
            image_id=image_id,
            photo=f"{image_id}.jpg",
            height=8,
            width=8,
            split="val" if image_id[0] == "v" else "train",
            tags=(1,),
            mask=None,
        )
        for image_id in ids
    )
    classes = ClassList(names=("cat",), synonyms=((),), background_words=())
    return Dataset(name="test", classes=classes, records=records)


def choose(train: int, val: int, size: int) -> list[tuple[str, str]]:
    scores = {
        name: {f"{name}{number:02d}": number / 100 for number in range(count)} for name, count in (("t", train), ("v", val))
    }
    training, validation = (Ranking(name="IoU", scores=scores[name]) for name in "tv")
    choices = gallery_images(dataset(train, val), training, validation, size)
    return [(choice.record.image_id, choice.rank) for choice in choices]


def test_half_the_gallery_is_val_with_worst_median_and_best() -> None:
    assert choose(train=21, val=11, size=12) == [
        ("v00", "worst"),
        ("v01", "worst"),
        ("v04", "median"),
        ("v05", "median"),
        ("v09", "best"),
        ("v10", "best"),
        ("t00", "worst"),
        ("t01", "worst"),
        ("t09", "median"),
        ("t10", "median"),
        ("t19", "best"),
        ("t20", "best"),
    ]


def test_a_side_with_few_images_leaves_its_places_to_the_other() -> None:
    assert [image_id for image_id, _ in choose(train=3, val=40, size=10)][-3:] == ["t00", "t01", "t02"]
    assert len(choose(train=3, val=40, size=10)) == 10
    assert len(choose(train=40, val=0, size=10)) == 10
    assert len(choose(train=2, val=2, size=10)) == 4
    assert choose(train=5, val=5, size=0) == []


def test_every_image_is_chosen_once_for_any_size() -> None:
    for size in range(14):
        names = [image_id for image_id, _ in choose(train=7, val=6, size=size)]
        assert len(set(names)) == len(names) == min(size, 13)


def test_images_without_a_score_are_not_chosen() -> None:
    none = Ranking(name="IoU", scores={})
    scored = Ranking(name="IoU", scores={"v00": float("nan"), "v01": 0.5})
    assert [choice.record.image_id for choice in gallery_images(dataset(0, 2), none, scored, 4)] == ["v01"]


def test_masks_are_laid_over_the_photo_in_palette_colours() -> None:
    photo = np.full((1, 2, 3), 100, np.uint8)
    blended = blend(photo, np.array([[0, 1]], np.uint8))
    assert blended[0, 0].tolist() == [40, 40, 40]
    assert blended[0, 1].tolist() == np.round(40 + 0.6 * PALETTE[1].astype(float)).tolist()


def test_pictures_are_a_small_photo_and_layers_with_the_classes_they_show(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.new("RGB", (1000, 500), "white").save(photo)
    mask = np.zeros((500, 1000), np.uint8)
    mask[:, 600:] = 1
    mask[:, 900:] = 255
    write_mask(tmp_path / "m.png", mask)
    record = Record(image_id="a", photo=str(photo), height=500, width=1000, split="val", tags=(1,), mask=None)
    files = {"deeplab": tmp_path / "m.png", "truth": None}
    maps = Maps(classes=(2,), values=np.array([[[0.0, 1.0]]], np.float16))
    pictures = write_pictures(record, files, maps, tmp_path / "images", side=320)
    assert pictures == Pictures(
        photo="a_photo.jpg",
        width=320,
        height=160,
        layers=(
            Layer(column="cam", file="a_cam.png", classes=(2,)),
            Layer(column="deeplab", file="a_deeplab.png", classes=(1, 255)),
        ),
    )
    with Image.open(tmp_path / "images/a_photo.jpg") as picture:
        assert picture.size == (320, 160)
    with Image.open(tmp_path / "images/a_deeplab.png") as picture:
        pixels = np.array(picture.convert("RGBA"))
    assert pixels.shape == (160, 320, 4)
    assert pixels[80, 10].tolist() == [0, 0, 0, SHADE]
    assert pixels[80, 250].tolist() == [*PALETTE[1].tolist(), 255]
    with Image.open(tmp_path / "images/a_cam.png") as picture:
        pixels = np.array(picture.convert("RGBA"))
    assert pixels[80, 10, 3] == 0  # nothing of the class here
    assert pixels[80, 310].tolist() == [*PALETTE[2].tolist(), 255]
    first = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    write_pictures(record, files, maps, tmp_path / "images", side=320)
    assert {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()} == first


def test_a_map_has_the_colour_of_its_strongest_class() -> None:
    maps = Maps(classes=(3, 7), values=np.array([[[0.5, 0.0]], [[0.25, 1.0]]], np.float32))
    indices, colours, opacities = map_layer(maps, 1, 2)
    assert colours[indices].tolist() == [[PALETTE[3].tolist(), PALETTE[7].tolist()]]
    assert opacities[indices].tolist() == [[128, 255]]


def test_maps_of_very_many_classes_have_fewer_levels_and_an_image_without_tags_is_empty() -> None:
    values = np.zeros((100, 1, 1), np.float32)
    values[99] = 1.0
    indices, colours, opacities = map_layer(Maps(classes=tuple(range(1, 101)), values=values), 1, 1)
    assert (colours[indices[0, 0]].tolist(), opacities[indices[0, 0]]) == (PALETTE[100].tolist(), 255)
    indices, _, opacities = map_layer(Maps(classes=(), values=np.zeros((0, 4, 4), np.float32)), 2, 3)
    assert indices.shape == (2, 3) and not opacities[indices].any()


def test_small_photos_are_not_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    record = Record(image_id="a", photo=str(tmp_path / "a.png"), height=10, width=20, split="val", tags=(), mask=None)
    assert write_pictures(record, {}, None, tmp_path, side=320).width == 20


def test_many_pictures_are_smaller_so_that_the_page_stays_below_five_megabytes() -> None:
    assert picture_side(0, 0) == picture_side(30, 180) == 320
    for count in (200, 1000, 5000):
        assert picture_side(count, 6 * count) ** 2 * count * (0.4 + 6 * 0.1) <= 4_200_000


def test_an_overlay_is_the_photo_with_its_mask(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (100, 100, 100)).save(tmp_path / "a.png")
    write_mask(tmp_path / "m.png", np.ones((10, 20), np.uint8))
    record = Record(image_id="a", photo=str(tmp_path / "a.png"), height=10, width=20, split="val", tags=(), mask=None)
    write_overlay(record, tmp_path / "m.png", tmp_path / "new/o.png")
    with Image.open(tmp_path / "new/o.png") as picture:
        assert picture.getpixel((3, 3)) == tuple(np.round(40 + 0.6 * PALETTE[1].astype(float)).astype(int))


def test_the_same_few_images_are_taken_from_the_whole_list() -> None:
    records = dataset(10, 0).records
    assert [record.image_id for record in spread(records, 4)] == ["t00", "t02", "t05", "t07"]
    assert spread(records[:2], 4) == list(records[:2])
    assert spread((), 4) == []


def test_where_little_is_good_the_worst_have_most() -> None:
    changed = Ranking(name="changed", scores={"t00": 0.1, "t01": 0.9}, large_is_good=False)
    choices = gallery_images(dataset(2, 0), changed, Ranking(name="IoU", scores={}), 2)
    assert [(choice.rank, choice.score) for choice in choices] == [("worst", 0.9), ("median", 0.1)]
