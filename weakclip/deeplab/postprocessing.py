"""A dense CRF on what a segmentation network found: the last step of the paper's evaluation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weakclip.crf import CrfKernel, dense_crf


def sharpen_winners(photo: NDArray[np.uint8], probabilities: NDArray[np.float32], kernel: CrfKernel) -> NDArray[np.float32]:
    """Class probabilities after a dense CRF among the classes that win at least one pixel; those of the others become 0.

    ``photo``: (H, W, 3) uint8. ``probabilities``: (K, H, W), which add up to 1. As released, those of the winners are
    made to add up to 1 first. Returns (K, H, W) float32.
    """
    winners = np.unique(probabilities.argmax(axis=0))
    sharpened = np.zeros_like(probabilities)
    sharpened[winners] = sharpen(photo, probabilities[winners], kernel)
    return sharpened


def sharpen(photo: NDArray[np.uint8], probabilities: NDArray[np.float32], kernel: CrfKernel) -> NDArray[np.float32]:
    """As `sharpen_winners` for probabilities of the winners alone: (n, H, W), which need not add up to 1, to (n, H, W)."""
    return dense_crf(photo, probabilities / probabilities.sum(axis=0, keepdims=True), kernel)
