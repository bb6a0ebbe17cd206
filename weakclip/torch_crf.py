"""The dense CRFs of a batch of photos at once, in torch on any device, so that a training on a GPU need not wait for CPU cores.

The model, the lattice and the mean-field steps are those of `weakclip.crf`, which has them from pydensecrf; numbers are added
in another order, so that probabilities differ in the fifth place, and those of a few pixels that lie between two simplices of
the lattice by more.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakclip.crf import CrfKernel
from weakclip.device import device, from_host, to_host
from weakclip.errors import WeakClipError
from weakclip.permutohedral import PermutohedralLattice


class BatchCrf:
    """The dense CRFs of photos (B, H, W, 3) uint8 on their device, ready for probabilities; see `weakclip.crf.PhotoCrf`.

    It holds about 0.2 kB a pixel; building it takes 1 kB more. Raises WeakClipError where the kernel is too narrow for the
    lattice.
    """

    @torch.no_grad()
    def __init__(self, photos: Tensor, kernel: CrfKernel) -> None:
        count, height, width, _ = photos.shape
        rows, columns = torch.meshgrid(*(torch.arange(side, device=photos.device) for side in (height, width)), indexing="ij")
        places = torch.stack([columns, rows], dim=2).reshape(-1, 2).float()
        seen = torch.cat([places.expand(count, -1, -1), photos.reshape(count, -1, 3).float()], dim=2).flatten(0, 1)
        widths = places.new_tensor([*2 * [kernel.bilateral_sxy], *3 * [kernel.bilateral_srgb]])
        images = torch.arange(count, device=photos.device)
        try:
            # Of places alone, which all photos have in common.
            self._smoothness = PermutohedralLattice(places / widths.new_tensor(kernel.gaussian_sxy), 0 * images[:1], 1)
            self._appearance = PermutohedralLattice(seen / widths, images.repeat_interleave(height * width), count)
        except ValueError as error:
            raise WeakClipError(
                f"the dense CRF cannot be computed: {error}", "make the widths of its kernels (sxy, srgb) larger"
            ) from error
        for lattice in (self._smoothness, self._appearance):
            lattice.normalise()
        self._kernel = kernel

    @torch.no_grad()
    def __call__(self, probabilities: Tensor, labels: Tensor, floor: float = 1e-5) -> Tensor:
        """Probabilities (B, n, H, W) float32, floored at ``floor`` -> (B, n, H, W) float32 that sum to one over n.

        ``labels``: (B, n) bool, those that an image has, at least one; the others get zero.
        """
        count, classes, height, width = probabilities.shape
        energies = probabilities.clamp(floor, 1.0).log().masked_fill(~labels[:, :, None, None], -torch.inf)
        unary = energies.permute(0, 2, 3, 1).reshape(count, -1, classes)
        found = unary.softmax(dim=2)
        for _ in range(self._kernel.iterations):
            side_by_side = found.transpose(0, 1).flatten(1)
            smooth = self._smoothness.filtered(side_by_side).unflatten(1, (count, classes)).transpose(0, 1)
            alike = self._appearance.filtered(found.flatten(0, 1)).unflatten(0, (count, -1))
            field = unary + self._kernel.gaussian_compat * smooth + self._kernel.bilateral_compat * alike
            found = field.softmax(dim=2)
        return found.reshape(count, height, width, classes).permute(0, 3, 1, 2)


def dense_crf_on_device(
    photo: NDArray[np.uint8], probabilities: NDArray[np.floating], kernel: CrfKernel, floor: float = 1e-5
) -> NDArray[np.float32]:
    """`weakclip.crf.dense_crf` of one photo (H, W, 3), on the device: (n, H, W) float32 that sum to one over n.

    Raises MemoryError where the device's memory is not enough.
    """
    try:
        pixels = from_host(torch.tensor(photo), device())
        values = from_host(torch.tensor(probabilities, dtype=torch.float32), device())
        labels = torch.ones(1, len(values), dtype=torch.bool, device=values.device)
        found = BatchCrf(pixels[None], kernel)(values[None], labels, floor)[0]
        result: NDArray[np.float32] = to_host(found.contiguous()).numpy()
        return result
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise
