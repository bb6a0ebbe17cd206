from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakclip.datasets.index import Record
from weakclip.deeplab import examples as module
from weakclip.deeplab.augmentation import Augmentation, augment
from weakclip.deeplab.examples import Batches, Example, read_example, with_masks_from, with_true_masks
from weakclip.deeplab.recipe import Mask, Pixels
from weakclip.errors import WeakClipError
from weakclip.masks import write_mask
from weakclip.seeding import rng

AUGMENTATION = Augmentation(crop_size=32, scale=(0.8, 1.25), colour=0.2, fill=(120, 120, 120))


def crop(photo: Pixels, mask: Mask, draw: np.random.Generator) -> tuple[Pixels, Mask]:
    return augment(photo, mask, AUGMENTATION, draw)


@pytest.fixture
def five(tmp_path: Path) -> tuple[Example, ...]:
    for index in range(5):
        photo = rng(index).integers(0, 256, (40, 30 + index, 3)).astype(np.uint8)
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
        write_mask(tmp_path / f"{index}.mask.png", (photo[..., 0] > 128).astype(np.uint8))
    return tuple(
        Example(image_id=str(i), photo=tmp_path / f"{i}.png", mask=tmp_path / f"{i}.mask.png", height=40, width=30 + i)
        for i in range(5)
    )


def batches(examples: tuple[Example, ...], seed: int = 0) -> Batches:
    return Batches(examples, augment=crop, batch_size=4, num_classes=2, seed=seed)


def test_records_meet_their_masks(tmp_path: Path) -> None:
    record = Record(image_id="a", photo="a.jpg", height=4, width=5, split="train", tags=(1,), mask=None)
    assert with_masks_from([record], tmp_path)[0].mask == tmp_path / "a.png"
    assert with_true_masks([record]) == ()


def test_every_example_comes_once_in_each_pass(five: tuple[Example, ...]) -> None:
    with batches(five) as source:
        names = [name for step in range(5) for name in source.names(step)]
    assert all(sorted(names[start : start + 5]) == ["0", "1", "2", "3", "4"] for start in range(0, 20, 5))
    assert len({tuple(names[start : start + 5]) for start in range(0, 20, 5)}) > 1


def test_a_step_is_the_same_in_any_order_and_from_disk_or_memory(
    five: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with batches(five) as source:
        found = [source.batch(step) for step in range(3)]
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    with batches(five) as source:
        again = source.batch(2)
    assert found[2].photos.shape == (4, 32, 32, 3) and found[2].masks.shape == (4, 32, 32)
    assert np.array_equal(found[2].photos, again.photos) and np.array_equal(found[2].masks, again.masks)
    with batches(five, seed=1) as source:
        assert not np.array_equal(source.batch(2).photos, again.photos)


def test_masks_that_do_not_fit_are_named(five: tuple[Example, ...]) -> None:
    write_mask(five[0].mask, np.zeros((40, 31), np.uint8))
    with pytest.raises(WeakClipError, match=r"0.mask.png is 31 x 40 pixels, its photo 30 x 40"):
        read_example(five[0], 2)
    write_mask(five[1].mask, np.full((40, 31), 7, np.uint8))
    with pytest.raises(WeakClipError, match=r"1.mask.png has the class index 7; there are 2 classes"):
        read_example(five[1], 2)


def test_no_photo_with_a_mask_is_a_message() -> None:
    with pytest.raises(WeakClipError, match="no photo with a mask"):
        batches(())
