"""A dense CRF on what a segmentation network found: the last step of the paper's evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from weakclip.crf import CrfKernel, dense_crf


def sharpen_winners(photo: NDArray[np.uint8], probabilities: NDArray[np.float32], kernel: CrfKernel) -> NDArray[np.float32]:
    """Class probabilities after a dense CRF among the classes that win at least one pixel; those of the others become 0.

    ``photo``: (H, W, 3) uint8. ``probabilities``: (K, H, W), which add up to 1. As released, those of the winners are
    made to add up to 1 first. Returns (K, H, W) float32.
    """
    winners = np.unique(probabilities.argmax(axis=0))
    found = probabilities[winners]
    sharpened = np.zeros_like(probabilities)
    sharpened[winners] = dense_crf(photo, found / found.sum(axis=0, keepdims=True), kernel)
    return sharpened


def predict_sharpened(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]], photo: NDArray[np.uint8], *, kernel: CrfKernel
) -> NDArray[np.float32]:
    """What ``predict`` finds in a photo (H, W, 3), sharpened: (K, H, W)."""
    return sharpen_winners(photo, predict(photo), kernel)
