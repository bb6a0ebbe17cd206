"""What sharpens class probabilities along the edges of a photo: the dense CRF, or PAR. The two give different masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weakclip.crf import CrfKernel, dense_crf
from weakclip.par import ParKernel, par_probabilities
from weakclip.workers import workers

Kernel = CrfKernel | ParKernel


def sharpened(photo: NDArray[np.uint8], probabilities: NDArray[np.floating], kernel: Kernel) -> NDArray[np.float32]:
    """Probabilities (n, H, W) of a photo (H, W, 3) uint8 -> (n, H, W) that sum to one, by the algorithm of the kernel."""
    if isinstance(kernel, ParKernel):
        return par_probabilities(photo, probabilities, kernel)
    return dense_crf(photo, probabilities, kernel)


def processes(kernel: Kernel) -> int:
    """How many processes may use it at once: a GPU is left to one of them."""
    in_torch = isinstance(kernel, ParKernel) or kernel.backend == "torch"
    return 1 if in_torch and on_gpu() else workers()


def on_gpu() -> bool:
    """Whether the device is a GPU."""
    from weakclip.device import device  # what refines with pydensecrf does without torch

    return device().type == "cuda"
