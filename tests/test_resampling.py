"""Bilinear resizing without antialiasing, in OpenCV's integers."""

import numpy as np
import pytest

from weakclip.resampling import ONE, neighbours, resize_without_antialias

PHOTO = np.random.default_rng(0).integers(0, 256, (13, 17, 3)).astype(np.uint8)


def exact(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same in floating point."""
    result = photo.astype(float)
    for axis, target in ((0, height), (1, width)):
        places = (np.arange(target) + 0.5) * photo.shape[axis] / target - 0.5
        first = np.floor(places).astype(int)
        share = (places - first).reshape([-1 if index == axis else 1 for index in range(3)])
        low, high = (np.take(result, (first + step).clip(0, photo.shape[axis] - 1), axis) for step in (0, 1))
        result = low * (1 - share) + high * share
    return result


@pytest.mark.parametrize("size", [(26, 34), (7, 5), (13, 40), (100, 17)])
def test_it_is_bilinear_to_a_level(size: tuple[int, int]) -> None:
    resized = resize_without_antialias(PHOTO, *size)
    assert resized.shape == (*size, 3) and resized.dtype == np.uint8
    assert np.abs(resized - exact(PHOTO, *size)).max() <= 1.0


def test_same_size_and_one_colour_stay_as_they_are() -> None:
    assert np.array_equal(resize_without_antialias(PHOTO, 13, 17), PHOTO)
    white = np.full((4, 4, 3), 255, np.uint8)
    assert (resize_without_antialias(white, 9, 11) == 255).all()


def test_rows_lose_bits_before_they_are_mixed() -> None:
    """Rows of 255 mixed 3 to 1 out of the border: what OpenCV cuts off twice is not rounded back."""
    first, first_weight, second, second_weight = neighbours(3, 6)
    assert (first_weight + second_weight == ONE).all()
    assert first.tolist() == [0, 0, 0, 1, 1, 2] and second.tolist() == [0, 1, 1, 2, 2, 2]
    assert second_weight.tolist() == [ONE * 3 // 4, ONE // 4] * 3
