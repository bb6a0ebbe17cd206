import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from weakclip.features.views import PADDING, View, crop_views, part_of_view, render_map, render_photo, whole_views


def quadrants(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A photo of four plain quarters, and the mask 0..3 of them."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[: height // 2, width // 2 :], mask[height // 2 :, : width // 2], mask[height // 2 :, width // 2 :] = 1, 2, 3
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], dtype=np.uint8)
    return colours[mask], mask


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_whole_views_fit_the_long_side_and_round_to_patches() -> None:
    views = whole_views(375, 500, scales=[0.5, 1.0], flip=True, image_size=512, patch=16)

    assert [(view.height, view.width, view.flip) for view in views] == [
        (192, 256, False),
        (192, 256, True),
        (384, 512, False),
        (384, 512, True),
    ]


def test_a_very_long_photo_keeps_one_patch_of_height() -> None:
    (view,) = whole_views(8, 5000, scales=[1.0], flip=False, image_size=128, patch=16)

    assert (view.height, view.width) == (16, 128)


def test_the_identity_view_changes_nothing() -> None:
    photo = noise(31, 47)
    view = View(height=31, width=47)

    np.testing.assert_array_equal(render_photo(photo, view), photo)
    np.testing.assert_array_equal(render_map(photo[..., 0], view, 31, 47), photo[..., 0])
    scores = np.random.default_rng(1).random((3, 31, 47)).astype(np.float32)
    np.testing.assert_allclose(render_map(scores, view, 31, 47, "bilinear"), scores, rtol=1e-6)


@given(seed=st.integers(0, 1000), index=st.integers(0, 3))
def test_a_flipped_view_is_the_mirror_image_of_the_same_view(seed: int, index: int) -> None:
    photo = noise(40, 60)
    view = crop_views("a", 40, 60, count=4, seed=seed, scale=(0.5, 2.0), colour=0.3, image_size=48)[index]
    mirrored = View(**{**view.to_dict(), "flip": not view.flip})  # type: ignore[arg-type]

    np.testing.assert_array_equal(render_photo(photo, mirrored), render_photo(photo, view)[:, ::-1])
    np.testing.assert_array_equal(render_map(photo[..., 0], mirrored, 12, 12), render_map(photo[..., 0], view, 12, 12)[:, ::-1])


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(24, 300),
    width=st.integers(24, 300),
    scale=st.sampled_from([(0.4, 0.6), (0.9, 1.1), (1.5, 3.0)]),
)
def test_photo_and_mask_show_the_same_place(seed: int, height: int, width: int, scale: tuple[float, float]) -> None:
    photo, mask = quadrants(height, width)
    (view,) = crop_views("photo", height, width, count=1, seed=seed, scale=scale, colour=0.0, image_size=64)
    seen, labels = render_photo(photo, view), render_map(mask, view, 64, 64)
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), PADDING])
    nearest = np.abs(seen[:, :, None].astype(int) - colours).sum(axis=-1).argmin(axis=-1)
    nearest[nearest == 4] = 255

    # only pixels on an edge between two colours, where the photo is blended, may differ
    zoomed = max(height, width) < 40  # a source pixel is then up to 8 pixels wide
    inner = np.ones((64, 64), dtype=bool)
    reach = 9 if zoomed else 4
    for shift in range(1, reach + 1):
        for axis in (0, 1):
            for step in (shift, -shift):
                inner &= np.roll(labels, step, axis) == labels
    inner[[0, -1]] = inner[:, [0, -1]] = False  # an edge just outside the view
    np.testing.assert_array_equal(nearest[inner], labels[inner])


def test_an_edge_inside_the_photo_does_not_blend_with_padding() -> None:
    photo = np.full((30, 40, 3), 250, dtype=np.uint8)
    view = View(height=16, width=16, left=0.0, right=1.0, top=-0.5, bottom=1.0)

    seen = render_photo(photo, view)

    assert (seen[8:] == 250).all()  # also in the first and last column
    assert (seen[:4] == PADDING).all()


def test_what_is_outside_the_photo_is_padding_and_ignored() -> None:
    view = View(height=8, width=8, left=-0.5, right=0.5, top=0.0, bottom=1.0)
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)

    labels = render_map(mask, view, 4, 4)

    np.testing.assert_array_equal(labels, [[255, 255, 0, 1], [255, 255, 4, 5], [255, 255, 8, 9], [255, 255, 12, 13]])


@pytest.mark.parametrize("flip", [False, True])
def test_a_part_of_a_view_is_cut_from_what_the_view_shows(flip: bool) -> None:
    photo, mask = quadrants(48, 64)
    view = View(height=32, width=64, left=-0.5, top=0.25, right=1.5, bottom=1.25, flip=flip)
    part = part_of_view(view, top=8, left=40, height=16, width=8)
    assert np.array_equal(render_map(mask, part, 16, 8), render_map(mask, view, 32, 64)[8:24, 40:48])
    difference = np.abs(render_photo(photo, part).astype(int) - render_photo(photo, view)[8:24, 40:48].astype(int))
    assert (difference <= 1).mean() > 0.8  # not where a view ends or a photo does: no neighbours to blend with


def test_a_window_beside_the_photo_is_all_padding() -> None:
    window = View(height=8, width=8, left=1.25, right=1.5)
    assert (render_photo(noise(16, 16), window) == PADDING).all()
    assert (render_map(np.zeros((16, 16), np.uint8), window, 8, 8) == 255).all()


def test_a_map_of_another_resolution_shows_the_same_place() -> None:
    scores = np.array([[0.0, 1.0]], dtype=np.float32)
    view = View(height=16, width=16)

    np.testing.assert_allclose(render_map(scores, view, 1, 4, "bilinear"), [[0, 0.25, 0.75, 1]])
    np.testing.assert_allclose(render_map(scores, view, 1, 4), [[0, 0, 1, 1]])


def test_bilinear_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a map of floats, got uint8"):
        render_map(np.zeros((2, 2), dtype=np.uint8), View(height=2, width=2), 2, 2, "bilinear")


def test_a_large_photo_is_reduced_first_without_moving() -> None:
    ramp = np.repeat(np.linspace(0, 255, 1003).astype(np.uint8)[None, :, None], 700, axis=0).repeat(3, axis=2)
    view = View(height=32, width=64, left=0.25, right=0.75, top=0.2, bottom=0.8)

    seen = render_photo(ramp, view)[16, :, 0]

    expected = 255 * (0.25 + (np.arange(64) + 0.5) / 64 * 0.5)
    np.testing.assert_allclose(seen, expected, atol=1.5)


def test_crops_depend_on_seed_image_and_index_alone() -> None:
    def crops(image_id: str, count: int, seed: int) -> tuple[View, ...]:
        return crop_views(image_id, 50, 70, count=count, seed=seed, scale=(0.6, 1.4), colour=0.2, image_size=64)

    assert crops("a", 4, 0)[:2] == crops("a", 2, 0)
    assert len({*crops("a", 4, 0), *crops("b", 4, 0), *crops("a", 4, 1)}) == 12


@given(seed=st.integers(0, 10_000))
def test_crops_keep_the_photo_in_its_shape_and_within_reach(seed: int) -> None:
    (view,) = crop_views("a", 300, 400, count=1, seed=seed, scale=(0.6, 1.4), colour=0.2, image_size=128)
    across, down = 128 / (view.right - view.left), 128 / (view.bottom - view.top)  # the zoomed photo, pixels

    assert across / down == pytest.approx(400 / 300, rel=1e-4)
    assert 0.6 * 128 - 0.01 <= across <= 1.4 * 128 + 0.01
    # a window larger than the photo holds all of it, a smaller one lies inside it
    for low, high in ((view.left, view.right), (view.top, view.bottom)):
        assert (low >= -1e-6 and high <= 1 + 1e-6) or (low <= 1e-6 and high >= 1 - 1e-6)
    assert all(0.8 <= factor <= 1.2 for factor in (view.brightness, view.contrast, view.saturation))


def test_colour_factors_change_the_photo_but_not_the_padding() -> None:
    photo = noise(16, 16)
    view = View(height=16, width=32, left=-0.5, right=1.5, brightness=0.5)

    seen = render_photo(photo, view)

    assert abs(int(seen[:, 10:22].mean()) - photo.mean() / 2) < 3
    assert (seen[:, :6] == PADDING).all()


def test_a_view_survives_json() -> None:
    (view,) = crop_views("é", 50, 70, count=1, seed=3, scale=(0.6, 1.4), colour=0.2, image_size=64)

    assert View.from_dict(json.loads(json.dumps(view.to_dict()))) == view
