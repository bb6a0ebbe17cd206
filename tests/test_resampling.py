import numpy as np
import pytest

from weakclip.resampling import resize_cubic, resize_nearest, resize_without_antialias, to_levels
from weakclip.seeding import rng


def photo(height: int, width: int) -> np.ndarray:
    return rng(0, height, width).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_nearest_takes_the_pixel_at_the_floor_of_its_place() -> None:
    row = np.arange(5, dtype=np.uint8)[None]
    assert resize_nearest(row, 1, 3).tolist() == [[0, 1, 3]]  # 0, 5/3, 10/3
    assert resize_nearest(row, 2, 10).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]] * 2
    assert resize_nearest(row, 1, 3, factor=0.5).tolist() == [[0, 2, 4]]  # the exact zoom, not 3/5
    # The tenth pixel lies at 9 * (14 / 18) = 7; at 9 * (1 / (18 / 14)), which OpenCV computes, a little before it.
    assert resize_nearest(np.arange(14)[None], 1, 18)[0, 8:11].tolist() == [6, 6, 7]


def test_linear_weights_are_those_of_the_pixel_centres() -> None:
    pixels = np.repeat(np.array([[[0], [100]]], np.uint8), 3, axis=2)
    # Centres of 4 new pixels in 2 old ones: -0.25, 0.25, 0.75, 1.25; beyond the border the border repeats.
    assert resize_without_antialias(pixels, 1, 4)[0, :, 0].tolist() == [0, 25, 75, 100]


def test_linear_at_half_size_is_the_rounded_mean_of_four() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0], pixels[1, 1] = 5, 1
    assert resize_without_antialias(pixels, 1, 1).ravel().tolist() == [2, 2, 2]  # 6 / 4 = 1.5


def test_cubic_weights_of_the_middle_are_those_of_keys_kernel() -> None:
    pixels = np.zeros((1, 4, 3), np.float32)
    pixels[0, :, 0] = (1, 0, 0, 0)
    pixels[0, :, 1] = (0, 1, 0, 0)
    # One new pixel in the middle of four: shares -3/32 and 19/32 at a parameter of -0.75.
    assert resize_cubic(pixels, 1, 1)[0, 0].tolist() == [-0.09375, 0.59375, 0.0]


@pytest.mark.parametrize(("height", "width"), [(3, 4), (20, 11), (41, 50), (8, 9)])
def test_flat_photos_stay_flat_and_the_same_size_changes_nothing(height: int, width: int) -> None:
    flat = np.full((16, 9, 3), 177, np.uint8)
    assert (resize_without_antialias(flat, height, width) == 177).all()
    assert (to_levels(resize_cubic(flat, height, width)) == 177).all()
    original = photo(16, 9)
    assert np.array_equal(resize_without_antialias(original, 16, 9), original)
    assert np.array_equal(resize_cubic(original, 16, 9), original)
    assert np.array_equal(resize_nearest(original, 16, 9), original)


def test_the_exact_zoom_moves_the_pixels() -> None:
    original = photo(10, 13)
    by_sides, by_zoom = resize_cubic(original, 14, 18), resize_cubic(original, 14, 18, factor=1.42)
    assert by_sides.shape == by_zoom.shape == (14, 18, 3)
    assert not np.allclose(by_sides, by_zoom)


def test_levels_round_halves_to_even_and_end_at_0_and_255() -> None:
    assert to_levels(np.array([-3, 0.5, 1.5, 254.6, 300], np.float32)).tolist() == [0, 0, 2, 255, 255]
