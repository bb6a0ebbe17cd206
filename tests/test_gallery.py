from pathlib import Path

import numpy as np
from PIL import Image

from weakclip.datasets.index import ClassList, Dataset, Record
from weakclip.gallery import Ranking, blend, gallery_images, shown_classes, thumbnail_side, write_panels
from weakclip.masks import PALETTE, write_mask


def dataset(train: int, val: int) -> Dataset:
    ids = [f"t{number:02d}" for number in range(train)] + [f"v{number:02d}" for number in range(val)]
    records = tuple(
        Record(
            image_id=image_id,
            photo=Path(f"{image_id}.jpg"),
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


def test_panels_are_small_pictures_with_the_classes_they_show(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.new("RGB", (1000, 500), "white").save(photo)
    mask = np.zeros((500, 1000), np.uint8)
    mask[:, 600:] = 1
    mask[:, 900:] = 255
    write_mask(tmp_path / "m.png", mask)
    record = Record(image_id="a", photo=photo, height=500, width=1000, split="val", tags=(1,), mask=None)
    files = {"deeplab": tmp_path / "m.png", "truth": None}
    panels = write_panels(record, files, tmp_path / "images", side=320)
    assert [(panel.column, panel.file, panel.width, panel.height) for panel in panels] == [
        ("photo", "a_photo.jpg", 320, 160),
        ("deeplab", "a_deeplab.jpg", 320, 160),
    ]
    assert panels[1].classes == (1, 255)
    assert shown_classes(panels) == (1,)
    with Image.open(tmp_path / "images/a_deeplab.jpg") as picture:
        assert picture.size == (320, 160)
    first = (tmp_path / "images/a_deeplab.jpg").read_bytes()
    write_panels(record, files, tmp_path / "images", side=320)
    assert (tmp_path / "images/a_deeplab.jpg").read_bytes() == first


def test_small_photos_are_not_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    record = Record(image_id="a", photo=tmp_path / "a.png", height=10, width=20, split="val", tags=(), mask=None)
    assert write_panels(record, {}, tmp_path, side=320)[0].width == 20


def test_many_thumbnails_are_smaller_so_that_the_page_stays_below_five_megabytes() -> None:
    assert thumbnail_side(0) == thumbnail_side(100) == 320
    for count in (200, 1000, 5000):
        assert count * thumbnail_side(count) ** 2 * 0.4 <= 4_500_000
