"""Training on a rank's part of a batch as if it were the whole.

Two kinds of layers look beyond a single image. Batch norms take their statistics from all images of a batch, and noise
(dropout, dropped paths) is drawn for all of them in one go. Inside `whole_batch` statistics are those of all ranks' parts, and
noise is drawn for the whole batch, of which each rank uses its part: every rank must stand at the same random state. Inside
`micro_batch` a rank's part, or all of the batch, is itself computed in parts.

torch's own SyncBatchNorm needs a GPU, and would have to take the place of layers of timm and segmentation_models_pytorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from weakclip.ranks import world


@contextmanager
def whole_batch() -> Iterator[None]:
    """What networks compute in the block is computed for the whole batch; alone, nothing changes."""
    if world().count == 1:
        yield
        return
    with _WholeBatch():
        yield


@contextmanager
def micro_batch(place: int, count: int, device: torch.device) -> Iterator[None]:
    """What networks compute in the block, on that device, is for every ``count``-th image of the batch, from ``place`` on.

    Random states after the block are those before it, so that all micro-batches have their parts of the same noise. Norms over
    the batch are not for this.
    """
    global _place, _micro_batches
    if count == 1:
        yield
        return
    _place, _micro_batches = place, count
    try:
        with (
            torch.random.fork_rng() if device.type == "cpu" else torch.random.fork_rng([device], device_type=device.type),
            _WholeBatch() if world().count == 1 else nullcontext(),
        ):
            yield
    finally:
        _place, _micro_batches = 0, 1


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of all ranks by their means, sent as one tensor; alone, nothing changes."""
    if world().count == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    means = world().average(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, means.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def mean_count(marked: Tensor) -> Tensor:
    """How many elements of a bool tensor of any shape are true, at least one; the mean over the ranks.

    A sum divided by it is a rank's share of the mean over the whole batch: the mean over the ranks is that mean.
    """
    count = marked.sum()
    if world().count == 1:
        return count.clamp_min(1)
    return world().average(count).clamp_min(1 / world().count)


_place, _micro_batches = 0, 1
"""The micro-batch that is computed, and how many there are."""


class _WholeBatch(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _REPLACED.get(function, function)(*args, **(kwargs or {}))


def batch_norm(
    inputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` of (B, C, H, W), where in training the batch is that of all ranks."""
    if not training:
        return functional.batch_norm(inputs, running_mean, running_var, weight, bias, False, momentum, eps)
    exact = inputs.detach().to(torch.promote_types(inputs.dtype, torch.float32))  # bfloat16 has too few digits for statistics
    variances, means = world().stacked(torch.stack(torch.var_mean(exact, dim=(0, 2, 3), correction=0))).unbind(dim=1)
    mean = means.mean(dim=0)
    variance = (variances + (means - mean).square()).mean(dim=0)  # the parts are of one size
    if running_mean is not None and running_var is not None:
        count = world().count * inputs.numel() // inputs.shape[1]
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * count / (count - 1), momentum)
    normalised: Tensor = _Normalise.apply(inputs, weight, bias, mean, variance, eps)
    return normalised


class _Normalise(torch.autograd.Function):
    """Batch norm with the mean and variance of all ranks, through which gradients of all ranks flow back."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, mean, (variance + eps).rsqrt())
        return functional.batch_norm(inputs, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, scale = ctx.saved_tensors
        normalised = (inputs - _channels(mean)) * _channels(scale)
        of_bias = gradient.sum(dim=(0, 2, 3))
        of_weight = (gradient * normalised).sum(dim=(0, 2, 3))
        pixels = inputs.numel() // inputs.shape[1]
        shift, slope = world().average(torch.stack([of_bias, of_weight])) / pixels
        of_inputs = (gradient - _channels(shift) - normalised * _channels(slope)) * _channels(scale)
        if weight is None:
            return of_inputs, None, None, None, None, None
        return of_inputs * _channels(weight), of_weight, of_bias, None, None, None


def dropout(inputs: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.dropout` of (B, ...), with noise for the batch of all ranks."""
    if not training or p == 0:
        return inputs
    ones = torch.ones_like(torch.cat([inputs.detach()] * _parts()))  # so laid out as the whole batch would be
    return inputs * _own(functional.dropout(ones, p))


def dropout2d(inputs: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.dropout2d` of (B, C, H, W), with noise for the batch of all ranks."""
    if not training or p == 0:
        return inputs
    ones = inputs.new_ones(len(inputs) * _parts(), inputs.shape[1], 1, 1)
    return inputs * _own(functional.dropout2d(ones, p))


def bernoulli(inputs: Tensor, p: float = 0.5) -> Tensor:
    """`torch.Tensor.bernoulli_`, by which timm chooses the paths that it drops, one for each image."""
    return inputs.copy_(_own(inputs.new_empty(len(inputs) * _parts(), *inputs.shape[1:]).bernoulli_(p)))


_REPLACED: Final[dict[Callable[..., Any], Callable[..., Any]]] = {
    functional.batch_norm: batch_norm,
    functional.dropout: dropout,
    functional.dropout2d: dropout2d,
    torch.Tensor.bernoulli_: bernoulli,
}


def _parts() -> int:
    return world().count * _micro_batches


def _own(whole: Tensor) -> Tensor:
    """Of a tensor (B, ...) of the whole batch what belongs to this rank's images, or to those of them that are computed now."""
    return whole[world().part(len(whole), "the batch")][_place::_micro_batches]


def _channels(values: Tensor) -> Tensor:
    return values[:, None, None]
