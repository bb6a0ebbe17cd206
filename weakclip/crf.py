"""Dense conditional random field on one photo: probabilities in, sharpened probabilities out.

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials" (NIPS 2011), computed by
pydensecrf. The WeakCLIP paper refines its pseudo masks with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

from weakclip.process_pool import in_processes
from weakclip.workers import workers


@dataclass(frozen=True)
class CrfKernel:
    """The two pairwise kernels and the number of mean-field steps.

    The Gaussian kernel smooths over ``gaussian_sxy`` pixels with weight ``gaussian_compat``. The bilateral kernel also
    looks at colour: ``bilateral_sxy`` pixels, ``bilateral_srgb`` grey levels, weight ``bilateral_compat``. Widths belong to
    a size of photo: those of the paper are for photos of about 500 pixels.
    """

    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float
    iterations: int


def dense_crf(
    photo: NDArray[np.uint8], probabilities: NDArray[np.floating], kernel: CrfKernel, floor: float = 1e-5
) -> NDArray[np.float32]:
    """Mean-field probabilities of a dense CRF whose unary energy is ``-log(probabilities)``.

    ``photo``: (H, W, 3) uint8 RGB. ``probabilities``: (n, H, W), floored at ``floor``; they need not sum to one.
    Returns (n, H, W) float32 that sums to one over n. A single class leaves nothing to decide: ones.
    The same input gives the same bytes. The interpreter lock is held throughout, so use processes, not threads.
    """
    count, height, width = probabilities.shape
    if photo.shape != (height, width, 3) or photo.dtype != np.uint8:
        raise ValueError(f"expected a photo of shape {(height, width, 3)} in uint8, got {photo.shape} in {photo.dtype}")
    if count == 1:
        return np.ones((1, height, width), np.float32)
    unary = -np.log(np.clip(probabilities.astype(np.float32), floor, 1.0))
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(count, -1), dtype=np.float32))
    field.addPairwiseGaussian(sxy=kernel.gaussian_sxy, compat=kernel.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=kernel.bilateral_sxy,
        srgb=kernel.bilateral_srgb,
        rgbim=np.ascontiguousarray(photo),
        compat=kernel.bilateral_compat,
    )
    return np.asarray(field.inference(kernel.iterations), dtype=np.float32).reshape(count, height, width)


CrfTask = tuple[NDArray[np.uint8], NDArray[np.float32], CrfKernel, float]
"""What `dense_crf` takes."""


def dense_crfs(tasks: Sequence[CrfTask]) -> list[NDArray[np.float32]]:
    """One after the other."""
    return [dense_crf(*task) for task in tasks]


def dense_crfs_in_processes(tasks: Sequence[CrfTask]) -> list[NDArray[np.float32]]:
    """In as many processes as there may be, each with an equal share that is sent at once, for a task may be small."""
    share = -(-len(tasks) // workers())
    shares = ((tasks[first : first + share],) for first in range(0, len(tasks), share))
    return [result for results in in_processes(dense_crfs, shares) for result in results]
