"""The dense CRF in torch, which is to give what pydensecrf gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_crf import KERNEL, two_regions
from weakclip import sharpening, torch_crf
from weakclip.crf import CrfKernel, dense_crf
from weakclip.errors import WeakClipError
from weakclip.torch_crf import BatchCrf

IN_TORCH = replace(KERNEL, backend="torch")
KERNELS = [CrfKernel(3, 3, 83, 5, 3, 10), CrfKernel(1, 3, 67, 3, 4, 10), CrfKernel(1, 3, 10, 13, 5, 10)]


def drawn(seed: int, count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo of a few flat patches and a little noise, and probabilities."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3))
    photo = patches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width] + rng.integers(-6, 7, (height, width, 3))
    return np.clip(photo, 0, 255).astype(np.uint8), rng.random((count, height, width), dtype=np.float32)


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_gives_what_pydensecrf_gives(kernel: CrfKernel) -> None:
    for seed in range(5):
        photo, probabilities = drawn(seed, 3, 60, 70)
        wanted, found = (dense_crf(photo, probabilities, each) for each in (kernel, replace(kernel, backend="torch")))
        assert found.dtype == np.float32 and found.flags.c_contiguous
        assert (found != wanted).any()  # in the last bits, or torch was not asked
        assert np.median(abs(found - wanted)) < 1e-5
        # A few pixels lie between two simplices, where the last bit tells which one it is.
        assert np.mean(abs(found - wanted) > 1e-3) < 0.002
        assert (found.argmax(axis=0) != wanted.argmax(axis=0)).mean() < 0.001


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 9), count=st.integers(1, 6), height=st.integers(1, 40), width=st.integers(1, 40))
def test_it_gives_that_for_any_size_and_number_of_classes(seed: int, count: int, height: int, width: int) -> None:
    photo, probabilities = drawn(seed, count, height, width)
    np.testing.assert_allclose(dense_crf(photo, probabilities, IN_TORCH), dense_crf(photo, probabilities, KERNEL), atol=0.01)


def test_the_floor_counts() -> None:
    photo, truth, _ = two_regions()
    certain = np.stack([1.0 - truth, truth]).astype(np.float32)
    for floor in (1e-5, 0.2):
        np.testing.assert_allclose(
            dense_crf(photo, certain, IN_TORCH, floor), dense_crf(photo, certain, KERNEL, floor), atol=1e-4
        )


def test_the_same_input_gives_the_same_bytes() -> None:
    photo, probabilities = drawn(0, 3, 50, 60)
    assert dense_crf(photo, probabilities, IN_TORCH).tobytes() == dense_crf(photo, probabilities, IN_TORCH).tobytes()


def test_photos_of_a_batch_have_labels_of_their_own() -> None:
    photos, values = zip(*(drawn(seed, 4, 20, 24) for seed in range(3)), strict=True)
    labels = torch.tensor([[True, True, False, False], [True, True, True, True], [True, False, False, False]])
    found = BatchCrf(torch.from_numpy(np.stack(photos)), KERNEL)(torch.from_numpy(np.stack(values)), labels)
    assert (found[~labels] == 0).all()
    for photo, probabilities, present, result in zip(photos, values, labels.numpy(), found, strict=True):
        wanted = dense_crf(photo, probabilities[present], KERNEL)
        np.testing.assert_allclose(result.numpy()[present], wanted, atol=1e-4)


def test_a_single_class_leaves_nothing_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, probabilities = drawn(0, 1, 8, 9)
    monkeypatch.setattr(torch_crf, "BatchCrf", None)
    assert np.array_equal(dense_crf(photo, probabilities, IN_TORCH), np.ones((1, 8, 9)))


def test_what_is_read_only_is_taken_as_it_is() -> None:
    photo, probabilities = drawn(0, 2, 8, 9)
    photo.flags.writeable = probabilities.flags.writeable = False
    assert dense_crf(photo, probabilities, IN_TORCH).shape == (2, 8, 9)


def test_kernels_too_narrow_for_the_lattice_are_refused() -> None:
    photo, probabilities = drawn(0, 2, 8, 9)
    for width in (1e-2, 1e-6):
        with pytest.raises(WeakClipError, match="dense CRF cannot be computed"):
            dense_crf(photo, probabilities, replace(IN_TORCH, bilateral_srgb=width, bilateral_sxy=width))


@pytest.mark.parametrize("words", ["CUDA out of memory", "DefaultCPUAllocator: can't allocate memory: you tried", "bug"])
def test_too_little_memory_is_called_that(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def refuse(*_: object) -> None:
        raise (torch.OutOfMemoryError if "CUDA" in words else RuntimeError)(words)

    monkeypatch.setattr(torch_crf, "BatchCrf", refuse)
    photo, probabilities = drawn(0, 2, 8, 9)
    with pytest.raises(RuntimeError if words == "bug" else MemoryError, match=words):
        dense_crf(photo, probabilities, IN_TORCH)


@pytest.mark.parametrize("gpu", [False, True])
def test_a_gpu_is_left_to_one_process(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    monkeypatch.setattr(sharpening, "on_gpu", lambda: gpu)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "3")
    assert sharpening.processes(IN_TORCH) == (1 if gpu else 3)
    assert sharpening.processes(KERNEL) == 3


def test_a_photo_of_another_size_or_type_is_refused() -> None:
    photo, _, probabilities = two_regions()
    with pytest.raises(ValueError, match=r"expected a photo of shape \(32, 48, 3\)"):
        dense_crf(photo[1:], probabilities, IN_TORCH)
    with pytest.raises(ValueError, match="in uint8, got"):
        dense_crf(photo.astype(np.float32), probabilities, IN_TORCH)
