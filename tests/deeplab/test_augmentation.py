import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakclip.deeplab.augmentation import Augmentation, augment, distort_colour
from weakclip.masks import IGNORE
from weakclip.seeding import rng

FILL = (124, 116, 104)


def plain(crop_size: int, scale: tuple[float, float], colour: float = 0.0) -> Augmentation:
    return Augmentation(crop_size=crop_size, scale=scale, colour=colour, fill=FILL)


def coded(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo whose red channel is its mask: what happens to the one must happen to the other."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, : width // 3] = 1
    mask[height // 2 :, width // 2 :] = 2
    return np.repeat((mask * 100)[..., None], 3, axis=2), mask


def test_scale_one_of_the_same_size_is_the_photo_or_its_mirror() -> None:
    photo, mask = coded(32, 32)
    seen = set()
    for step in range(20):
        new_photo, new_mask = augment(photo, mask, plain(32, (1.0, 1.0)), rng(0, step))
        mirrored = not np.array_equal(new_photo, photo)
        seen.add(mirrored)
        assert np.array_equal(new_photo, photo[:, ::-1] if mirrored else photo)
        assert np.array_equal(new_mask, mask[:, ::-1] if mirrored else mask)
    assert seen == {True, False}


def test_photo_and_mask_stay_together() -> None:
    photo, mask = coded(60, 90)
    for step in range(30):
        new_photo, new_mask = augment(photo, mask, plain(48, (0.4, 2.0)), rng(1, step))
        inside = new_mask != IGNORE
        expected = new_mask[inside].astype(int) * 100
        # Bilinear and nearest resizing differ along edges alone.
        assert (np.abs(new_photo[..., 0][inside] - expected) > 50).mean() < 0.12


def test_a_small_photo_is_surrounded_by_the_mean_colour_and_ignored_pixels() -> None:
    photo, mask = coded(20, 30)
    new_photo, new_mask = augment(photo, mask, plain(64, (1.0, 1.0)), rng(2))
    assert (new_mask != IGNORE).sum() == 20 * 30
    assert np.array_equal(np.unique(new_photo[new_mask == IGNORE], axis=0), [FILL])


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    size=st.sampled_from([32, 48]),
    zoom=st.floats(0.1, 4.0),
    seed=st.integers(0, 99),
)
def test_any_size_and_zoom_gives_a_full_crop(height: int, width: int, size: int, zoom: float, seed: int) -> None:
    photo, mask = coded(height, width)
    new_photo, new_mask = augment(photo, mask, plain(size, (zoom, zoom * 1.5), 0.5), rng(seed))
    assert new_photo.shape == (size, size, 3) and new_photo.dtype == np.uint8
    assert new_mask.shape == (size, size) and set(np.unique(new_mask)) <= {0, 1, 2, IGNORE}
    assert (new_mask != IGNORE).any()


def test_same_draws_give_the_same_crop() -> None:
    photo, mask = coded(50, 40)
    first, again, other = (augment(photo, mask, plain(32, (0.5, 2.0), 0.3), rng(3, step)) for step in (7, 7, 8))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_colour_strength_zero_changes_nothing() -> None:
    photo = rng(4).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    assert np.array_equal(distort_colour(photo, 0.0, rng(5)), photo)


def test_colours_stay_near_for_a_small_strength() -> None:
    photo = rng(4).integers(60, 180, (9, 7, 3)).astype(np.uint8)
    changed = distort_colour(photo, 0.05, rng(5)).astype(int)
    assert np.abs(changed - photo).max() == pytest.approx(10, abs=10)
    assert not np.array_equal(changed, photo)
