"""Where tensors live: not a parameter, since it changes results by float noise only."""

from __future__ import annotations

import os

import torch

from weakclip.errors import WeakClipError


def device() -> torch.device:
    """``WEAKCLIP_DEVICE`` if set, else CUDA where there is one, else the CPU."""
    name = os.environ.get("WEAKCLIP_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise WeakClipError(
            f"WEAKCLIP_DEVICE={name} cannot be used: {str(error).splitlines()[0]}", "set it to cpu, cuda or cuda:N, or unset it"
        ) from error
    return chosen
