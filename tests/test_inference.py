"""Windows, sizes and fusion of views."""

import numpy as np
import pytest
import torch
from torch import Tensor

from weakclip.inference import Fusion, fitted_size, fuse_probabilities, limit_to_tags, limit_to_winners, window_starts


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
        "multiple": 1,
    }
    return Fusion(**(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "windows"),
    [(100, [(0, 100)]), (128, [(0, 128)]), (160, [(0, 128), (32, 160)]), (224, [(0, 128), (85, 213), (96, 224)])],
)
def test_windows_cover_a_side_and_the_last_is_shifted_back(size: int, windows: list[tuple[int, int]]) -> None:
    assert window_starts(size, 128, 85) == windows


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
    whole = fuse_probabilities(colour_logits, [image], 3, fusion(base_size=(90, 64), window=90))
    windows = fuse_probabilities(colour_logits, [image], 3, fusion(base_size=(90, 64), window=50, stride=20))
    assert np.allclose(whole[0], windows[0], atol=1e-5)


def test_mirrored_photo_gives_mirrored_probabilities() -> None:
    image = photo(48, 64)
    settings = fusion(scales=[0.5, 1.0], flip=True)
    (plain,) = fuse_probabilities(colour_logits, [image], 3, settings)
    (mirrored,) = fuse_probabilities(colour_logits, [np.ascontiguousarray(image[:, ::-1])], 3, settings)
    assert np.allclose(plain, mirrored[:, :, ::-1], atol=1e-4)


def test_a_batch_of_photos_of_several_sizes_equals_each_alone() -> None:
    images = [photo(48, 64), photo(64, 40), photo(64, 64)]
    settings = fusion(scales=[0.75, 1.25], flip=True, stride=30)
    together = fuse_probabilities(colour_logits, images, 3, settings, batch_size=3)
    for image, result in zip(images, together, strict=True):
        assert result.shape == (3, *image.shape[:2])
        assert np.allclose(result.sum(axis=0), 1, atol=1e-5)
        assert np.allclose(result, fuse_probabilities(colour_logits, [image], 3, settings)[0], atol=1e-5)


def test_tag_limiting_keeps_background_and_tags_and_renormalises() -> None:
    probabilities = np.array([0.2, 0.5, 0.3], np.float32).reshape(3, 1, 1)
    classes, kept = limit_to_tags(probabilities, (2,), share_absent=False)
    assert classes.tolist() == [0, 2]
    assert kept.ravel().tolist() == pytest.approx([0.4, 0.6])


def test_what_absent_classes_had_may_go_to_the_tags_alone() -> None:
    probabilities = np.array([0.4, 0.3, 0.1, 0.2], np.float32).reshape(4, 1, 1)
    classes, kept = limit_to_tags(probabilities, (1, 2), share_absent=True)
    assert classes.tolist() == [0, 1, 2]
    assert kept.ravel().tolist() == pytest.approx([0.4, 0.45, 0.15])
    nothing, background = limit_to_tags(probabilities, (), share_absent=True)
    assert nothing.tolist() == [0] and background.ravel().tolist() == [1]


def test_winners_are_kept_as_they_are() -> None:
    probabilities = np.array([[[0.6, 0.1]], [[0.3, 0.2]], [[0.1, 0.7]]], np.float32)
    classes, kept = limit_to_winners(probabilities)
    assert classes.tolist() == [0, 2]
    assert np.array_equal(kept, probabilities[[0, 2]])
