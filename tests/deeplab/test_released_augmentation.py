import numpy as np
import pytest

from weakclip.deeplab.released_augmentation import (
    Draws,
    ReleasedAugmentation,
    augment,
    cropped,
    draw_changes,
    shifted,
    zoomed,
    zoomed_side,
)
from weakclip.seeding import rng

AUGMENTATION = ReleasedAugmentation(crop_size=16, scale=(0.5, 1.5), shift=10, fill=(1.5, 2.5, 3.5))
NOTHING = {"hue": 0, "saturation": 0, "value": 0, "mirror": False, "zoom": 1.0, "top": 0, "left": 0}


def numbered(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo whose first two channels are row and column, and a mask that counts the pixels."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, rows], axis=-1), rows * np.uint8(width) + columns


def test_hue_goes_round_and_the_rest_ends_at_the_border() -> None:
    red, bright = np.array([[[255, 0, 0]]], np.uint8), np.array([[[250, 250, 250]]], np.uint8)
    assert shifted(red, -60, 0, 0).tolist() == [[[0, 0, 255]]]  # 120 degrees back from red: blue
    assert shifted(red, 60, 0, 0).tolist() == [[[0, 255, 0]]]
    assert shifted(bright, 0, -10, 10).tolist() == [[[255, 255, 255]]]
    assert shifted(bright, 0, 0, -255).tolist() == [[[0, 0, 0]]]


def test_mirror_and_zoom_move_photo_and_mask_together() -> None:
    photo, mask = numbered(6, 8)
    same_photo, same_mask = zoomed(photo, mask, Draws(**{**NOTHING, "mirror": True}))
    assert np.array_equal(same_photo, photo[:, ::-1]) and np.array_equal(same_mask, mask[:, ::-1])
    larger, labels = zoomed(photo, mask, Draws(**{**NOTHING, "zoom": 2.0}))
    assert larger.shape == (12, 16, 3) and np.array_equal(labels, np.kron(mask, np.ones((2, 2), np.uint8)))


def test_sides_round_halves_to_even() -> None:
    assert [zoomed_side(side, 0.5) for side in (1, 5, 7)] == [1, 2, 4]


@pytest.mark.parametrize(("top", "left"), [(0, 0), (4, 5), (-3, 5), (-3, -2)])
def test_a_crop_is_where_it_was_drawn_and_the_mean_colour_around(top: int, left: int) -> None:
    height, width = 20 if top >= 0 else 13, 21 if left >= 0 else 14
    photo, mask = numbered(height, width)
    crop, labels = cropped(photo, mask, Draws(**{**NOTHING, "top": top, "left": left}), AUGMENTATION)
    assert crop.shape == (16, 16, 3) and crop.dtype == np.float32
    for row in range(16):
        for column in range(16):
            inside = 0 <= row + top < height and 0 <= column + left < width
            expected = photo[row + top, column + left].tolist() if inside else [1.5, 2.5, 3.5]
            assert crop[row, column].tolist() == expected
            assert labels[row, column] == (mask[row + top, column + left] if inside else 255)


def test_draws_cover_their_ranges_and_nothing_else() -> None:
    draws = [draw_changes(20, 12, AUGMENTATION, rng(seed)) for seed in range(400)]
    for level in ("hue", "saturation", "value"):
        levels = {getattr(drawn, level) for drawn in draws}
        assert levels == set(range(-10, 11))
    zooms = np.array([drawn.zoom for drawn in draws])
    assert 0.5 <= zooms.min() < 0.52 and 1.48 < zooms.max() <= 1.5 and abs(zooms.mean() - 1) < 0.05
    assert 0.4 < np.mean([drawn.mirror for drawn in draws]) < 0.6
    for drawn in draws:
        for side, start in ((20, drawn.top), (12, drawn.left)):
            room = zoomed_side(side, drawn.zoom) - 16
            assert min(room, 0) <= start <= max(room, 0)


def test_the_same_numbers_give_the_same_crop() -> None:
    photo, mask = numbered(20, 12)
    first, second, other = (augment(photo, mask, AUGMENTATION, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert not np.array_equal(first[1], other[1])
