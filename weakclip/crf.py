"""Dense conditional random field on one photo: probabilities in, sharpened probabilities out.

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials" (NIPS 2011), computed by
pydensecrf, or by torch (`weakclip/torch_crf.py`). The WeakCLIP paper refines its pseudo masks with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

Backend = Literal["pydensecrf", "torch"]


@dataclass(frozen=True)
class CrfKernel:
    """The two pairwise kernels and the number of mean-field steps.

    The Gaussian kernel smooths over ``gaussian_sxy`` pixels with weight ``gaussian_compat``. The bilateral kernel also
    looks at colour: ``bilateral_sxy`` pixels, ``bilateral_srgb`` grey levels, weight ``bilateral_compat``. Widths belong to
    a size of photo: those of the paper are for photos of about 500 pixels. ``backend``: what `dense_crf` computes it with.
    """

    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float
    iterations: int
    backend: Backend = "pydensecrf"


class PhotoCrf:
    """pydensecrf's CRF of one photo, ready for probabilities: its pairwise kernels' lattices, which need the photo alone.

    ``photo``: (H, W, 3) uint8 RGB. ``count``: of the classes. Building it takes about a third of the time of a `dense_crf`.
    It holds 3 to 4 MB at 128 x 128 pixels. Raises ValueError for a photo of another shape or type.
    """

    def __init__(self, photo: NDArray[np.uint8], count: int, kernel: CrfKernel) -> None:
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise ValueError(f"expected a photo of shape (H, W, 3) in uint8, got {photo.shape} in {photo.dtype}")
        height, width, _ = photo.shape
        self._shape, self._iterations = (count, height, width), kernel.iterations
        self._field: DenseCRF2D | None = None
        if count == 1:  # leaves nothing to decide
            return
        self._field = DenseCRF2D(width, height, count)
        self._field.addPairwiseGaussian(sxy=kernel.gaussian_sxy, compat=kernel.gaussian_compat)
        self._field.addPairwiseBilateral(
            sxy=kernel.bilateral_sxy,
            srgb=kernel.bilateral_srgb,
            rgbim=np.ascontiguousarray(photo),
            compat=kernel.bilateral_compat,
        )

    def __call__(self, probabilities: NDArray[np.floating], floor: float = 1e-5) -> NDArray[np.float32]:
        """What `dense_crf` returns for them; raises ValueError for probabilities of other classes or another size."""
        if probabilities.shape != self._shape:
            raise ValueError(f"expected probabilities of shape {self._shape}, got {probabilities.shape}")
        if self._field is None:
            return np.ones(self._shape, np.float32)
        unary = np.clip(probabilities.astype(np.float32, order="C", copy=False), floor, 1.0)
        np.negative(np.log(unary, out=unary), out=unary)
        self._field.setUnaryEnergy(unary.reshape(len(unary), -1))
        return np.asarray(self._field.inference(self._iterations), dtype=np.float32).reshape(self._shape)


def dense_crf(
    photo: NDArray[np.uint8], probabilities: NDArray[np.floating], kernel: CrfKernel, floor: float = 1e-5
) -> NDArray[np.float32]:
    """Mean-field probabilities of a dense CRF whose unary energy is ``-log(probabilities)``.

    ``photo``: (H, W, 3) uint8 RGB. ``probabilities``: (n, H, W), floored at ``floor``; they need not sum to one.
    Returns (n, H, W) float32 that sums to one over n. A single class leaves nothing to decide: ones.
    The same input gives the same bytes. pydensecrf holds the interpreter lock throughout, so use processes, not threads.
    """
    count, height, width = probabilities.shape
    if photo.shape != (height, width, 3) or photo.dtype != np.uint8:
        raise ValueError(f"expected a photo of shape {(height, width, 3)} in uint8, got {photo.shape} in {photo.dtype}")
    if kernel.backend == "torch" and count > 1:
        from weakclip.torch_crf import dense_crf_on_device  # what uses pydensecrf does without torch

        return dense_crf_on_device(photo, probabilities, kernel, floor)
    return PhotoCrf(photo, count, kernel)(probabilities, floor)
