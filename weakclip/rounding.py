"""Weights rounded to bfloat16 once, for inference: half of their memory, and no rounding in every pass.

Autocast rounds the weights of a product anew whenever it computes with them, unless they are trained.
"""

from __future__ import annotations

import torch
from torch import nn

PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)
"""Modules whose weights autocast rounds."""


@torch.no_grad()
def round_weights(network: nn.Module) -> None:
    """Round the weights of a network's products to bfloat16: under autocast it computes what it did, and cannot be trained."""
    for module in network.modules():
        if isinstance(module, PRODUCTS):
            for name, weight in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(weight.to(torch.bfloat16), requires_grad=False))
