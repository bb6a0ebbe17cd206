import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakclip.crf import CrfKernel, PhotoCrf, dense_crf

KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=20, bilateral_srgb=13, bilateral_compat=10, iterations=10)


def two_regions(noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo dark on the left and bright on the right, its truth, and noisy probabilities of the two classes."""
    rng = np.random.default_rng(0)
    truth = np.zeros((32, 48), np.uint8)
    truth[:, 24:] = 1
    photo = np.where(truth, 200, 40)[:, :, None].repeat(3, axis=2).astype(np.uint8)
    right = np.clip(0.5 + 0.1 * (2.0 * truth - 1) + noise * rng.standard_normal(truth.shape), 0, 1)
    return photo, truth, np.stack([1 - right, right])


def test_it_sharpens_noisy_probabilities_along_the_edge_of_the_photo() -> None:
    photo, truth, probabilities = two_regions()
    before = (probabilities.argmax(0) == truth).mean()
    after = (dense_crf(photo, probabilities, KERNEL).argmax(0) == truth).mean()
    assert before < 0.7
    assert after > 0.99


def test_the_same_input_gives_the_same_bytes() -> None:
    photo, _, probabilities = two_regions()
    assert dense_crf(photo, probabilities, KERNEL).tobytes() == dense_crf(photo, probabilities, KERNEL).tobytes()


def test_a_single_class_has_probability_one() -> None:
    photo, _, probabilities = two_regions()
    result = dense_crf(photo, probabilities[:1], KERNEL)
    assert result.dtype == np.float32
    assert np.array_equal(result, np.ones((1, 32, 48)))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(count=st.integers(2, 6), height=st.integers(1, 20), width=st.integers(1, 20), dtype=st.sampled_from(["f2", "f4", "f8"]))
def test_results_sum_to_one_for_any_size_and_float_type(count: int, height: int, width: int, dtype: str) -> None:
    rng = np.random.default_rng(count)
    photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = dense_crf(photo, rng.random((count, height, width)).astype(dtype), KERNEL)
    assert result.shape == (count, height, width)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(0), 1, atol=1e-5)


def test_the_order_of_classes_does_not_matter() -> None:
    photo, _, probabilities = two_regions()
    np.testing.assert_allclose(
        dense_crf(photo, probabilities[::-1], KERNEL), dense_crf(photo, probabilities, KERNEL)[::-1], atol=1e-5
    )


def test_impossible_classes_are_floored_not_infinite() -> None:
    photo, truth, _ = two_regions()
    certain = np.stack([1.0 - truth, truth]).astype(np.float32)
    assert np.isfinite(dense_crf(photo, certain, KERNEL)).all()


def test_a_photo_of_another_size_or_type_is_refused() -> None:
    photo, _, probabilities = two_regions()
    with pytest.raises(ValueError, match=r"expected a photo of shape \(32, 48, 3\)"):
        dense_crf(photo[1:], probabilities, KERNEL)
    with pytest.raises(ValueError, match="in uint8, got"):
        dense_crf(photo.astype(np.float32), probabilities, KERNEL)


def test_it_can_be_built_before_the_probabilities_are_there() -> None:
    photo, _, probabilities = two_regions()
    ready = PhotoCrf(photo, 2, KERNEL)
    other = PhotoCrf(255 - photo, 2, KERNEL)  # built between the halves of the first
    assert ready(probabilities).tobytes() == dense_crf(photo, probabilities, KERNEL).tobytes()
    assert other(probabilities).tobytes() == dense_crf(255 - photo, probabilities, KERNEL).tobytes()


def test_probabilities_of_other_classes_are_refused() -> None:
    photo, _, probabilities = two_regions()
    with pytest.raises(ValueError, match=r"expected probabilities of shape \(3, 32, 48\), got \(2, 32, 48\)"):
        PhotoCrf(photo, 3, KERNEL)(probabilities)
