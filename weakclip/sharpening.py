"""What sharpens class probabilities along the edges of a photo: the dense CRF, or PAR. The two give different masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weakclip.crf import CrfKernel, dense_crf
from weakclip.par import ParKernel, par_probabilities

Kernel = CrfKernel | ParKernel


def sharpened(photo: NDArray[np.uint8], probabilities: NDArray[np.floating], kernel: Kernel) -> NDArray[np.float32]:
    """Probabilities (n, H, W) of a photo (H, W, 3) uint8 -> (n, H, W) that sum to one, by the algorithm of the kernel."""
    if isinstance(kernel, ParKernel):
        return par_probabilities(photo, probabilities, kernel)
    return dense_crf(photo, probabilities, kernel)


def algorithm(kernel: Kernel) -> str:
    """Its name in parameters and metrics."""
    return "par" if isinstance(kernel, ParKernel) else "dense_crf"
