"""Weights rounded to bfloat16 once, for inference.

Autocast rounds the weights of a product anew in every pass, unless they are trained and kept: a hundredth of the time of a
window's pass on a CPU, and with them half of the weights' memory goes.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)
PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)
"""Modules whose weights autocast rounds."""


@torch.no_grad()
def round_weights(network: Network) -> Network:
    """The network with the weights of its products in bfloat16: under autocast the same results. It itself stays as it is; its
    other weights are shared."""
    rounded = copy.copy(network)
    rounded._modules = {name: part and round_weights(part) for name, part in network._modules.items()}
    if isinstance(network, PRODUCTS):
        rounded._parameters = {
            name: weight if weight is None else nn.Parameter(weight.to(torch.bfloat16), requires_grad=False)
            for name, weight in network._parameters.items()
        }
    return rounded
