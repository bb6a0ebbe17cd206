"""Linear maps that follow one another as one, for inference: fewer operations, the same numbers but for rounding.

A level of the released code's pyramid adapter ends in a transposed convolution that keeps CLIP's width, 768 at four times the
token grid, and the neck's lateral brings it down to 256 at once. Nothing lies between them, so one transposed convolution from
768 to 256 does both. Training keeps the two apart, for each has its own weights.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from weakclip.network.pyramid import PyramidAdapter
from weakclip.network.weakclip import WeakClip


def fold_laterals(model: WeakClip) -> WeakClip:
    """The network with the laterals of its neck folded into the up-sampling of its pyramid, where that saves operations.

    The model itself stays as it is; parts that do not change are shared with it. What follows the pyramid's channels in a level
    (score map, tokens of a second encoder) still goes through the lateral.
    """
    if not any(raised.out_channels > lateral.out_channels for raised, lateral in pairs(model)):
        return model
    folded = copy.copy(model)
    folded._modules = dict(model._modules)
    folded.pyramid, folded.neck = copy.deepcopy(model.pyramid), copy.deepcopy(model.neck)
    for raised, lateral in pairs(folded):
        fold(raised, lateral)
    return folded


def pairs(model: WeakClip) -> list[tuple[nn.ConvTranspose2d, nn.Conv2d]]:
    """Of each level that ends in a transposed convolution: that, and the lateral after it."""
    if not isinstance(model.pyramid, PyramidAdapter):
        return []
    levels = zip((model.pyramid.to_4x, model.pyramid.to_2x), model.neck.laterals, strict=False)
    return [(raised, lateral) for (*_, raised), lateral in levels if isinstance(raised, nn.ConvTranspose2d)]


@torch.no_grad()
def fold(raised: nn.ConvTranspose2d, lateral: nn.Conv2d) -> None:
    """Let a transposed convolution give what a 1x1 convolution makes of its channels, which are the first that this sees; the
    1x1 convolution then passes them on and adds what it makes of the others."""
    channels, width = raised.out_channels, lateral.out_channels
    of_raised, of_others = lateral.weight[:, :channels, 0, 0], lateral.weight[:, channels:]
    raised.weight = kernel(torch.einsum("cmij,dm->cdij", raised.weight, of_raised))
    if raised.bias is not None:
        raised.bias = nn.Parameter(of_raised @ raised.bias)
    passed_on = torch.eye(width).to(of_others)[:, :, None, None]
    lateral.weight = kernel(torch.cat([passed_on, of_others], dim=1))
    raised.out_channels, lateral.in_channels = width, width + of_others.shape[1]


def kernel(weight: Tensor) -> nn.Parameter:
    """Of a convolution, (out, in, h, w), or a transposed one, (in, out, h, w), laid out as all of the network's."""
    return nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
