"""An exponential moving average of a network's weights.

Averaging the weights along the way of a stochastic optimiser (Polyak and Juditsky 1992; as a teacher's weights: Tarvainen and
Valpola 2017) smooths out what the last few noisy batches and noisy masks have done. It costs no forward pass.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def decay_of_step(step: int, decay: float) -> float:
    """Share of the old average that stays after a step, counted from 1: rises from 2 / 11 to ``decay``.

    Short of many steps the average would be of the fresh decoder, so it looks back over a tenth of the way at the most.
    """
    return min(decay, (1 + step) / (10 + step))


class MovingAverage(nn.Module, Generic[Network]):
    """The averaged twin of a network, a module of its own, so that it lies in checkpoints as the network does.

    Statistics of batch norms are averaged like weights; counters are copied.
    """

    steps: Tensor

    def __init__(self, network: Network, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device="cpu"))

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Takes in the network's weights after a step of its optimiser."""
        self.steps += 1
        share = 1 - decay_of_step(int(self.steps), self.decay)
        own, new = self.network.state_dict(), network.state_dict()
        averaged = [name for name, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in averaged], [new[name] for name in averaged], share)
        for name in own.keys() - set(averaged):
            own[name].copy_(new[name])
