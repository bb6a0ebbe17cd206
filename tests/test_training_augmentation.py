from collections.abc import Iterator

import numpy as np
import pytest

from weakclip.masks import IGNORE
from weakclip.seeding import rng
from weakclip.training_augmentation import (
    Crop,
    Drawn,
    TrainingAugmentation,
    augment,
    cropped,
    distort_colours,
    draw_crop,
    padded,
)


class Script:
    """Gives the numbers of a list, whatever is asked for."""

    def __init__(self, *numbers: float) -> None:
        self.left: Iterator[float] = iter(numbers)
        self.asked: list[tuple[float, float]] = []

    def integer(self, low: int, high: int) -> int:
        self.asked.append((low, high))
        return int(next(self.left))

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return float(next(self.left))


GREY = np.full((1, 1, 3), 100, np.uint8)


@pytest.mark.parametrize(
    ("numbers", "level"),
    [
        ((0, 0, 0, 0, 0), 100),
        ((1, 20.7, 0, 0, 0, 0), 120),  # cut, not rounded
        ((1, 32, 1, 1, 1.5, 0, 0), 198),  # brightness, then contrast
        ((1, -32, 0, 0, 0, 1, 0.5), 34),  # contrast last
        ((0, 1, 1, 1.5, 1, 0.5, 1, 5), 150),  # grey has neither saturation nor hue
    ],
)
def test_colours_change_in_the_order_of_the_draws(numbers: tuple[float, ...], level: int) -> None:
    script = Script(*numbers)
    assert distort_colours(GREY, script).tolist() == [[[level] * 3]]
    assert next(script.left, None) is None


def test_hue_and_saturation_change_a_colour() -> None:
    red = np.array([[[200, 0, 0]]], np.uint8)
    assert distort_colours(red, Script(0, 0, 0, 1, -18, 0)).tolist() == [[[200, 0, 119]]]  # 36 degrees towards magenta
    assert distort_colours(red, Script(0, 0, 1, 0.5, 0, 0))[0, 0, 1] in (99, 100)


def test_crops_are_redrawn_until_no_class_has_three_quarters() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 1
    mask[7] = IGNORE
    # Left: one class; from column 1: a quarter is class 1, which is not enough; from column 2: halves.
    script = Script(0, 0, 0, 1, 1, 2, 9, 9)
    assert draw_crop(mask, (4, 4), script) == Crop(1, 2)
    assert script.asked == [(0, 5)] * 6


def test_the_tenth_crop_is_taken_as_it_is_and_short_sides_whole() -> None:
    script = Script(*range(20))
    assert draw_crop(np.zeros((30, 40), np.uint8), (4, 4), script) == Crop(18, 19)
    with pytest.raises(StopIteration):
        script.integer(0, 1)
    assert draw_crop(np.full((3, 40), IGNORE, np.uint8), (4, 4), Drawn(rng(0))).top == 0


def test_what_lies_outside_has_the_colour_fill_and_is_255() -> None:
    photo, mask = np.full((2, 3, 3), 50, np.uint8), np.ones((2, 3), np.uint8)
    part, labels = cropped(photo, Crop(0, 1), (4, 4)), cropped(mask, Crop(0, 1), (4, 4))
    pixels, targets = padded(part, labels, (4, 4), (1.5, 2.5, 3.5))
    assert pixels.shape == (4, 4, 3) and pixels.dtype == np.float32 and (pixels[:2, :2] == 50).all()
    assert (pixels[2:] == [1.5, 2.5, 3.5]).all() and (pixels[:, 2:] == [1.5, 2.5, 3.5]).all()
    assert (targets[:2, :2] == 1).all() and (targets == IGNORE).sum() == 12


def test_a_whole_augmentation_follows_its_draws() -> None:
    photo = np.repeat(np.arange(12, dtype=np.uint8)[None, :, None] * 20, 6, axis=0).repeat(3, axis=2)
    mask = np.repeat(np.arange(12, dtype=np.uint8)[None], 6, axis=0)
    settings = TrainingAugmentation(base_size=(24, 12), scale=(0.5, 2.0), crop_size=8, fill=(9.0, 9.0, 9.0))
    # Zoom 0.5 keeps 6 x 12 pixels; the crop begins at column 3; mirrored; brighter by 10.
    pixels, labels = augment(photo, mask, settings, Script(0.5, 0, 3, 0.2, 1, 10, 0, 0, 0, 0))
    assert labels[:6].tolist() == [[10, 9, 8, 7, 6, 5, 4, 3]] * 6 and (labels[6:] == IGNORE).all()
    assert pixels[:6, :, 0].tolist() == [[210, 190, 170, 150, 130, 110, 90, 70]] * 6 and (pixels[6:] == 9).all()
    larger, _ = augment(photo, mask, settings, Script(2.0, 5, 7, 0.9, 0, 0, 0, 0, 0))  # 24 x 48 pixels, not mirrored
    assert larger.shape == (8, 8, 3) and (np.diff(larger[0, :, 0]) > 0).all()
