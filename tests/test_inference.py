"""Windows, sizes and fusion of views."""

import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from weakclip import inference
from weakclip.inference import (
    Fusion,
    ViewLogits,
    among_tags,
    fitted_size,
    fuse_probabilities,
    limit_to_winners,
    window_starts,
    windows_along,
)


def colour_logits(images: Tensor) -> Tensor:
    """A network whose logits are the pixels' colours: knows every pixel's class from the pixel alone."""
    return images.float() / 25


def fusion(**changes: object) -> Fusion:
    settings: dict[str, object] = {
        "scales": [1.0],
        "flip": False,
        "base_size": (64, 64),
        "window": 64,
        "stride": 40,
        "patch": 1,
        "multiple": 1,
    }
    return Fusion(**(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "windows"),
    [(100, [(0, 100)]), (128, [(0, 128)]), (160, [(0, 128), (32, 160)]), (224, [(0, 128), (85, 213), (96, 224)])],
)
def test_windows_cover_a_side_and_the_last_is_shifted_back(size: int, windows: list[tuple[int, int]]) -> None:
    assert window_starts(size, 128, 85) == windows


@pytest.mark.parametrize(
    ("size", "windows"),
    [
        (100, [(0, 100)]),
        (192, [(0, 192)]),
        (224, [(0, 112), (112, 224)]),
        (250, [(0, 128), (122, 250)]),
        (193, [(0, 104), (89, 193)]),
        (390, [(0, 136), (127, 263), (254, 390)]),
    ],
)
def test_a_stride_longer_than_a_window_makes_even_windows_of_a_side(size: int, windows: list[tuple[int, int]]) -> None:
    assert windows_along(size, 128, 192, 8) == windows
    assert windows_along(size, 128, 128, 8) == window_starts(size, 128, 128)


def test_even_windows_are_no_longer_than_the_stride_where_that_is_no_multiple_of_the_patch() -> None:
    assert windows_along(390, 128, 199, 8) == windows_along(390, 128, 192, 8)


def test_a_photo_is_fitted_into_long_and_short_side() -> None:
    assert fitted_size(375, 500, long_side=2048, short_side=512) == (512, 683)
    assert fitted_size(100, 1000, long_side=512, short_side=512) == (51, 512)
    assert fitted_size(101, 149, long_side=149, short_side=101, multiple=16) == (96, 144)
    assert fitted_size(4, 500, long_side=128, short_side=128, multiple=8) == (8, 128)


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


def test_one_window_at_photo_size_is_the_softmax_of_the_logits() -> None:
    image = photo(64, 64)
    (result,) = fuse_probabilities(colour_logits, [image], 3, fusion())
    expected = torch.from_numpy(image).permute(2, 0, 1).float().div(25).softmax(dim=0).numpy()
    assert np.allclose(result, expected, atol=1e-5)


def test_overlapping_windows_of_a_pointwise_network_equal_the_whole() -> None:
    image = photo(90, 64)
    (whole,) = fuse_probabilities(colour_logits, [image], 3, fusion(base_size=(90, 64), window=90))
    for stride in (20, 60):
        (windows,) = fuse_probabilities(colour_logits, [image], 3, fusion(base_size=(90, 64), window=50, stride=stride))
        assert np.allclose(whole, windows, atol=1e-5)


def test_mirrored_photo_gives_mirrored_probabilities() -> None:
    image = photo(48, 64)
    settings = fusion(scales=[0.5, 1.0], flip=True)
    (plain,) = fuse_probabilities(colour_logits, [image], 3, settings)
    (mirrored,) = fuse_probabilities(colour_logits, [np.ascontiguousarray(image[:, ::-1])], 3, settings)
    assert np.allclose(plain, mirrored[:, :, ::-1], atol=1e-4)


def test_a_batch_of_photos_of_several_sizes_equals_each_alone() -> None:
    images = [photo(48, 64), photo(64, 40), photo(64, 64)]
    settings = fusion(scales=[0.75, 1.25], flip=True, stride=30)
    together = fuse_probabilities(colour_logits, images, 3, settings, pixels_together=3 * 30 * 40)
    for image, result in zip(images, together, strict=True):
        assert result.shape == (3, *image.shape[:2])
        assert np.allclose(result.sum(axis=0), 1, atol=1e-5)
        (alone,) = fuse_probabilities(colour_logits, [image], 3, settings)
        assert np.allclose(result, alone, atol=1e-5)


def test_only_the_wanted_classes_are_returned_and_all_take_part() -> None:
    images = [photo(48, 64), photo(64, 40)]
    settings = fusion(scales=[0.75, 1.25], flip=True)
    everything = list(fuse_probabilities(colour_logits, images, 3, settings))
    some = list(fuse_probabilities(colour_logits, images, 3, settings, wanted=[[2], [0, 1]]))
    assert np.array_equal(some[0], everything[0][[2]]) and np.array_equal(some[1], everything[1][[0, 1]])


@pytest.mark.parametrize(("height", "width"), [(200, 90), (23, 31)])
def test_rows_in_bands_equal_all_rows_at_once(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image, settings = photo(height, width), fusion(flip=True, scales=[0.7, 1.0])
    (whole,) = fuse_probabilities(colour_logits, [image], 3, settings)
    monkeypatch.setattr(inference, "BAND", 3 * 7 * width)
    (banded,) = fuse_probabilities(colour_logits, [image], 3, settings)
    assert np.allclose(whole, banded, atol=1e-5)


def test_logits_in_memory_do_not_grow_with_photos_and_views(monkeypatch: pytest.MonkeyPatch) -> None:
    images, settings = [photo(48, 64)] * 6, fusion(scales=[0.5, 0.75, 1.0], flip=True)
    expected = list(fuse_probabilities(colour_logits, images, 3, settings))
    limit = 2 * 3 * 48 * 64
    monkeypatch.setattr(inference, "LOGITS_TOGETHER", limit)
    living: weakref.WeakSet[ViewLogits] = weakref.WeakSet()
    held: list[int] = []
    gather = inference.gather_logits

    def watched(predict: inference.Predict, views: Sequence[ViewLogits], *others: int) -> None:
        living.update(views)
        gather(predict, views, *others)
        held.append(sum(view.logits.numel() for view in living))

    monkeypatch.setattr(inference, "gather_logits", watched)
    for result, other in zip(fuse_probabilities(colour_logits, images, 3, settings), expected, strict=True):
        assert np.array_equal(result, other)
    assert len(held) > 6 and limit / 2 < max(held) <= limit + 3 * 48 * 64  # and the last view of the group before


def test_tag_limiting_renormalises_background_and_tags() -> None:
    probabilities = np.array([0.2, 0.3], np.float32).reshape(2, 1, 1)
    assert among_tags(probabilities, share_absent=False).ravel().tolist() == pytest.approx([0.4, 0.6])


def test_what_absent_classes_had_may_go_to_the_tags_alone() -> None:
    probabilities = np.array([0.4, 0.3, 0.1], np.float32).reshape(3, 1, 1)
    assert among_tags(probabilities, share_absent=True).ravel().tolist() == pytest.approx([0.4, 0.45, 0.15])
    assert among_tags(probabilities[:1], share_absent=True).ravel().tolist() == [1]


def test_winners_are_kept_as_they_are() -> None:
    probabilities = np.array([[[0.6, 0.1]], [[0.3, 0.2]], [[0.1, 0.7]]], np.float32)
    classes, kept = limit_to_winners(probabilities)
    assert classes.tolist() == [0, 2]
    assert np.array_equal(kept, probabilities[[0, 2]])
