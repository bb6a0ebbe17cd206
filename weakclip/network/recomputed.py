"""What a part of the network keeps for its gradient, computed again in the backward pass (Chen et al. 2016, "Training Deep Nets
with Sublinear Memory Cost")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def recomputed(part: Callable[..., Any], *inputs: Any) -> Any:
    """``part(*inputs)``: the same values and gradients, of which only the inputs are kept until the backward pass.

    Not for parts that change when they compute, such as norms over the batch with their running figures, nor for noise, which
    would be another one where `weakclip.whole_batch` draws it.
    """
    if not torch.is_grad_enabled():
        return part(*inputs)
    return checkpoint(part, *inputs, use_reentrant=False)
