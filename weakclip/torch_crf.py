"""The dense CRFs of a batch of photos at once, in torch on any device: a GPU makes what else would wait for CPU cores.

The model, the lattice and the mean-field steps are those of `weakclip.crf`, which has them from pydensecrf; numbers are added
in another order, so that probabilities differ by about 1e-5.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakclip.crf import CrfKernel
from weakclip.device import device
from weakclip.permutohedral import PermutohedralLattice


class BatchCrf:
    """The dense CRFs of photos (B, H, W, 3) uint8 on their device, ready for probabilities; see `weakclip.crf.PhotoCrf`."""

    @torch.no_grad()
    def __init__(self, photos: Tensor, kernel: CrfKernel) -> None:
        count, height, width, _ = photos.shape
        rows, columns = torch.meshgrid(*(torch.arange(side, device=photos.device) for side in (height, width)), indexing="ij")
        places = torch.stack([columns, rows], dim=2).float().expand(count, -1, -1, -1).reshape(-1, 2)
        colours = photos.reshape(-1, 3).float()
        images = torch.arange(count, device=photos.device).repeat_interleave(height * width)
        widths = colours.new_tensor([*2 * [kernel.bilateral_sxy], *3 * [kernel.bilateral_srgb]])
        appearance = torch.cat([places, colours], dim=1) / widths
        self._messages = [
            (kernel.gaussian_compat, PermutohedralLattice(places / widths.new_tensor(kernel.gaussian_sxy), images)),
            (kernel.bilateral_compat, PermutohedralLattice(appearance, images)),
        ]
        for _, lattice in self._messages:
            lattice.normalise()
        self._iterations = kernel.iterations

    @torch.no_grad()
    def __call__(self, probabilities: Tensor, labels: Tensor, floor: float = 1e-5) -> Tensor:
        """Probabilities (B, n, H, W) float32, floored at ``floor`` -> (B, n, H, W) float32 that sum to one over n.

        ``labels``: (B, n) bool, those that an image has, at least one; the others get zero.
        """
        count, classes, height, width = probabilities.shape
        energies = probabilities.clamp(floor, 1.0).log().masked_fill(~labels[:, :, None, None], -torch.inf)
        unary = energies.permute(0, 2, 3, 1).reshape(-1, classes)
        found = unary.softmax(dim=1)
        for _ in range(self._iterations):
            field = unary.clone()
            for compat, lattice in self._messages:
                field.add_(lattice.filtered(found), alpha=compat)
            found = field.softmax(dim=1)
        return found.reshape(count, height, width, classes).permute(0, 3, 1, 2)


def dense_crf_on_device(
    photo: NDArray[np.uint8], probabilities: NDArray[np.floating], kernel: CrfKernel, floor: float = 1e-5
) -> NDArray[np.float32]:
    """`weakclip.crf.dense_crf` of one photo, on the device."""
    pixels = torch.from_numpy(np.ascontiguousarray(photo)).to(device())
    values = torch.from_numpy(np.ascontiguousarray(probabilities, np.float32)).to(device())
    labels = torch.ones(1, len(values), dtype=torch.bool, device=values.device)
    result: NDArray[np.float32] = BatchCrf(pixels[None], kernel)(values[None], labels, floor)[0].contiguous().cpu().numpy()
    return result
