import numpy as np

from weakclip.crf import CrfKernel, dense_crf
from weakclip.deeplab.postprocessing import sharpen_winners
from weakclip.seeding import rng

KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=20, bilateral_srgb=8, bilateral_compat=10, iterations=5)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two halves of a photo, their classes 1 and 3 found with some noise, and a class 2 that never wins."""
    photo = np.full((20, 30, 3), 40, np.uint8)
    photo[:, 15:] = 200
    probabilities = np.full((4, 20, 30), 0.05, np.float32)
    probabilities[1, :, :15] = probabilities[3, :, 15:] = 0.6
    probabilities[2] = 0.3
    noisy = rng(0).random((20, 30)) < 0.1
    probabilities[1][noisy], probabilities[3][noisy] = probabilities[3][noisy], probabilities[1][noisy]
    return photo, probabilities / probabilities.sum(axis=0)


def test_noise_goes_and_only_winners_stay() -> None:
    photo, probabilities = scene()
    sharpened = sharpen_winners(photo, probabilities, KERNEL)
    winners = sharpened.argmax(axis=0)
    assert (winners[:, :15] == 1).all() and (winners[:, 15:] == 3).all()
    assert not sharpened[[0, 2]].any() and np.allclose(sharpened.sum(axis=0), 1, atol=1e-5)


def test_winners_add_up_to_one_before_the_crf() -> None:
    photo, probabilities = scene()
    pair = probabilities[[1, 3]] / probabilities[[1, 3]].sum(axis=0)
    assert np.array_equal(sharpen_winners(photo, probabilities, KERNEL)[[1, 3]], dense_crf(photo, pair, KERNEL))


def test_a_single_winner_is_certain() -> None:
    photo, probabilities = scene()
    probabilities[0] = 5
    assert (sharpen_winners(photo, probabilities, KERNEL)[0] == 1).all()
