"""State dictionaries in files that other programs wrote: safetensors, or what `torch.save` wrote."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from weakclip.errors import WeakClipError


def read_state(path: Path, parameter: str = "deeplab.encoder_weights") -> dict[str, Tensor]:
    """The tensors of a file by name, without the prefix ``module.`` of parallel training.

    The dictionary may lie under ``state_dict`` or ``model``. ``parameter``: what names the file, for the error message.

    Raises:
        WeakClipError: the file is missing or damaged, or holds something else than tensors.
    """
    if not path.is_file():
        raise WeakClipError(f"{path} is missing", f"put the file there, or give {parameter} another path")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise WeakClipError(f"{path} cannot be read: {str(error).splitlines()[0]}", "download or copy it anew") from error
    except Exception as error:  # torch refuses what is no tensor with an UnpicklingError
        problem = f"{path} holds more than tensors, or is damaged"
        raise WeakClipError(problem, "save its state dictionary alone: torch.save(model.state_dict(), file)") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeakClipError(f"{path} is not a state dictionary", "save one with torch.save(model.state_dict(), file)")
    return {str(key).removeprefix("module."): value for key, value in state.items()}
