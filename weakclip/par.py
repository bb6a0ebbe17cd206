"""Pixel-adaptive refinement (PAR): every pixel becomes a mean of its neighbours, weighted by how alike they look.

After AFA (Ru et al., CVPR 2022), which took the idea from pixel-adaptive convolution; most single-stage methods since then
sharpen their labels with it while they train. It is not the dense CRF and gives other masks: it looks at a few neighbours at
fixed distances, and minimises no energy. All of it is slices of padded maps, which suits a GPU, where the dense CRF would make
training wait for CPU cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # imported where it is used: a stage that refines with the dense CRF does without
    from torch import Tensor

CONTRAST: Final = 0.3
"""Share of the local deviation that a difference of colour is measured in; of the deviation of distances likewise."""
POSITION_WEIGHT: Final = 0.01
"""Of the weights that depend on distance alone; those of colour have 1, so the weights of a pixel sum to 1.01."""


@dataclass(frozen=True)
class ParKernel:
    """``dilations``: distances of the neighbours, pixels, eight at each. ``iterations``: how often means are taken."""

    dilations: tuple[int, ...]
    iterations: int


def refine_by_pixels(photos: Tensor, maps: Tensor, kernel: ParKernel) -> Tensor:
    """Maps (B, K, H, W) along the edges of photos (B, 3, h, w) of any range, which are resized to them; no gradient.

    Each map is refined on its own. As released: all grow by 1.01 an iteration, so divide by their sum where they are to be
    probabilities. Memory: 8 weights a pixel and dilation, and two copies of the maps.
    """
    import torch
    from torch.nn import functional

    with torch.no_grad():
        if photos.shape[2:] != maps.shape[2:]:
            photos = functional.interpolate(photos, size=maps.shape[2:], mode="bilinear", align_corners=True)
        weights = neighbour_weights(photos, kernel.dilations)
        for _ in range(kernel.iterations):
            refined = torch.zeros_like(maps)
            for number, neighbour in enumerate(neighbours(maps, kernel.dilations)):
                refined.addcmul_(neighbour, weights[:, number, None])
            maps = refined
    return maps


def neighbour_weights(photos: Tensor, dilations: Sequence[int]) -> Tensor:
    """What the neighbours of each pixel of photos (B, 3, H, W) count: (B, 8 x dilations, H, W), in the order of `neighbours`.

    Colours are compared channel by channel, in units of the deviation among the neighbours (n - 1, without the pixel itself).
    """
    import torch

    count = 8 * len(dilations)
    mean = torch.zeros_like(photos)
    for neighbour in neighbours(photos, dilations):
        mean += neighbour / count
    variance = torch.zeros_like(photos)
    for neighbour in neighbours(photos, dilations):
        variance += (neighbour - mean).square() / (count - 1)
    unit = CONTRAST * (variance.sqrt() + 1e-8)
    alike = photos.new_empty(len(photos), count, *photos.shape[2:])
    for number, neighbour in enumerate(neighbours(photos, dilations)):
        alike[:, number] = -((neighbour - photos) / unit).square().mean(dim=1)
    distances = photos.new_tensor(neighbour_distances(dilations))
    near = -(distances / (CONTRAST * (distances.std() + 1e-8))).square()
    return alike.softmax(dim=1) + POSITION_WEIGHT * near.softmax(dim=0)[:, None, None]


def neighbours(maps: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """For each of the eight directions at each distance, what lies there of each pixel of (B, C, H, W); borders are repeated.

    Dilation by dilation, row by row. Slices of one padded copy.
    """
    from torch.nn import functional

    height, width = maps.shape[2:]
    margin = max(dilations)
    padded = functional.pad(maps, [margin] * 4, mode="replicate")
    for down, right in _offsets(dilations):
        yield padded[:, :, margin + down : margin + down + height, margin + right : margin + right + width]


def neighbour_distances(dilations: Sequence[int]) -> list[float]:
    """Distance of each of `neighbours`, pixels."""
    return [float(np.hypot(down, right)) for down, right in _offsets(dilations)]


def _offsets(dilations: Sequence[int]) -> Iterator[tuple[int, int]]:
    steps = (-1, 0, 1)
    for dilation in dilations:
        yield from ((dilation * down, dilation * right) for down in steps for right in steps if (down, right) != (0, 0))


def par_probabilities(photo: NDArray[np.uint8], probabilities: NDArray[np.floating], kernel: ParKernel) -> NDArray[np.float32]:
    """What PAR makes of the class probabilities (n, H, W) of a photo (H, W, 3), on the device: (n, H, W) that sum to one."""
    import torch

    from weakclip.device import device, from_host, to_host

    count, height, width = probabilities.shape
    if photo.shape != (height, width, 3) or photo.dtype != np.uint8:
        raise ValueError(f"expected a photo of shape {(height, width, 3)} in uint8, got {photo.shape} in {photo.dtype}")
    if count == 1:
        return np.ones((1, height, width), np.float32)
    pixels = from_host(torch.from_numpy(photo), device()).permute(2, 0, 1)[None].float()
    maps = from_host(torch.from_numpy(probabilities.astype(np.float32)), device())[None]
    refined = refine_by_pixels(pixels, maps.clamp_min(1e-5), kernel)[0]
    result: NDArray[np.float32] = to_host(refined / refined.sum(dim=0)).numpy()
    return result
