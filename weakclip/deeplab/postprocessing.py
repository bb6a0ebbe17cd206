"""A dense CRF, or PAR, on what a network found; with the CRF the last step of the paper's evaluation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weakclip.sharpening import Kernel, sharpened


def sharpen_winners(photo: NDArray[np.uint8], probabilities: NDArray[np.float32], kernel: Kernel) -> NDArray[np.float32]:
    """Class probabilities sharpened among the classes that win at least one pixel; those of the others become 0.

    ``photo``: (H, W, 3) uint8. ``probabilities``: (K, H, W), which add up to 1. As released, those of the winners are
    made to add up to 1 first. Returns (K, H, W) float32.
    """
    winners = np.unique(probabilities.argmax(axis=0))
    result = np.zeros_like(probabilities)
    result[winners] = sharpen(photo, probabilities[winners], kernel)
    return result


def sharpen(photo: NDArray[np.uint8], probabilities: NDArray[np.float32], kernel: Kernel) -> NDArray[np.float32]:
    """As `sharpen_winners` for probabilities of the winners alone: (n, H, W), which need not add up to 1, to (n, H, W)."""
    return sharpened(photo, probabilities / probabilities.sum(axis=0, keepdims=True), kernel)
