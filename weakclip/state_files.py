"""State dictionaries in files that other programs wrote: safetensors, or what `torch.save` wrote."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from weakclip.errors import WeakClipError, of_the_machine


@dataclass(frozen=True, kw_only=True)
class Imported:
    """``used``: number of a checkpoint's tensors that are in the network now. ``unused``: names of the others."""

    used: int
    unused: tuple[str, ...]


def read_state(path: Path, parameter: str = "deeplab.encoder_weights") -> dict[str, Tensor]:
    """The tensors of a file by name, without the prefix ``module.`` of parallel training.

    The dictionary may lie under ``state_dict`` or ``model``. ``parameter``: what names the file, for the error message.

    Raises:
        WeakClipError: the file is missing or damaged, or holds something else than tensors.
    """
    if path.suffix == ".safetensors" and path.is_file():
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            if of_the_machine(error):
                raise
            raise _damaged(path, error) from error
    state = read_saved(path, f"put the file there, or give {parameter} another path")
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeakClipError(f"{path} is not a state dictionary", "save one with torch.save(model.state_dict(), file)")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def read_saved(path: Path, hint: str) -> object:
    """What `torch.save` wrote, as long as it is tensors and plain values: no code of the file is run.

    ``hint``: what to do where the file is missing.

    Raises:
        WeakClipError: the file is missing or damaged, or holds other objects.
    """
    if not path.is_file():
        raise WeakClipError(f"{path} is missing", hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle protocol: what cannot be read fails anyway
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        problem = f"{path} holds more than tensors and plain values, or is damaged"
        raise WeakClipError(
            problem, "it could run code, and is not opened; download it again, or save its tensors alone"
        ) from error
    except Exception as error:  # torch raises nearly any kind for a damaged file
        if of_the_machine(error):
            raise
        raise _damaged(path, error) from error
    return content


def _damaged(path: Path, error: Exception) -> WeakClipError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return WeakClipError(f"{path} cannot be read: {first}", "download or copy it anew")
