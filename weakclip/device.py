"""Where tensors live and what they are computed in. The device is not a parameter: it changes results by float noise only."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from weakclip.errors import WeakClipError
from weakclip.ranks import launched


def device() -> torch.device:
    """``WEAKCLIP_DEVICE`` if set, else CUDA where there is one (each of torchrun's processes has its own), else the CPU."""
    cuda = f"cuda:{os.environ['LOCAL_RANK']}" if launched() else "cuda"
    name = os.environ.get("WEAKCLIP_DEVICE") or (cuda if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise WeakClipError(
            f"WEAKCLIP_DEVICE={name} cannot be used: {str(error).splitlines()[0]}",
            "set it to cpu, cuda or cuda:N, or unset it; start no more processes on a machine than it has GPUs",
        ) from error
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)  # for what is made without naming a device, such as pinned memory
    return chosen


def arithmetic(precision: str) -> torch.autocast:
    """A context in which networks compute in ``precision``: float32, or bfloat16 where it is safe and float32 elsewhere.

    It holds for the thread that enters it.
    """
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bfloat16")


def to_host(tensor: Tensor) -> Tensor:
    """The tensor, of any shape, in main memory. From a GPU it comes by way of pinned memory, many times faster."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host


def from_host(tensor: Tensor, where: torch.device) -> Tensor:
    """The tensor, of any shape, on a device. A GPU fetches it from pinned memory while the CPU goes on."""
    if where.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(where, non_blocking=True)
    return tensor.to(where)


def pinned(tensor: Tensor) -> Tensor:
    """The tensor, of any shape, where a GPU can copy it from while the CPU goes on; as it is where there is no GPU."""
    return tensor.pin_memory() if device().type == "cuda" and tensor.device.type == "cpu" else tensor
