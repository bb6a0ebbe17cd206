from collections.abc import Iterator

import numpy as np
import pytest

from weakclip.masks import IGNORE
from weakclip.seeding import rng
from weakclip.training_augmentation import Crop, Drawn, cropped, distort_colours, draw_crop, normalised_and_padded


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


def test_what_lies_outside_is_zero_and_255() -> None:
    photo, mask = np.full((2, 3, 3), 50, np.uint8), np.ones((2, 3), np.uint8)
    part, labels = cropped(photo, Crop(0, 1), (4, 4)), cropped(mask, Crop(0, 1), (4, 4))
    mean, std = np.array([10, 20, 30], np.float32), np.array([2, 5, 10], np.float32)
    inputs, targets = normalised_and_padded(part, labels, (4, 4), mean, std)
    assert inputs.shape == (4, 4, 3) and (inputs[:2, :2] == [20, 6, 2]).all()
    assert inputs[2:].max() == inputs[:, 2:].max() == 0
    assert (targets[:2, :2] == 1).all() and (targets == IGNORE).sum() == 12
