"""The tensors of a TorchScript archive, as OpenAI ships CLIP: read without running the program that lies beside them.

`torch.jit.load` runs what the archive says is needed to rebuild its modules, and TorchScript can write files. So the archive,
a zip file, is read here: ``data.pkl`` describes modules as objects of classes of the archive's own (``__torch__...``) with
their attributes; tensors are views on storages, ``data/<key>``. Known from torch's `torch/csrc/jit/serialization`.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor

from weakclip.pickle_marks import check_marks

STORAGES: Final = {
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
}


class Module:
    """A module of the archive: its attributes, whatever class it is of."""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module that needs a program to be rebuilt")
        self.attributes: dict[str, object] = state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors that modules of the archive hold, parameters or not, by their dotted names.

    Raises:
        pickle.UnpicklingError: it holds more than modules, tensors and plain values.
        Exception: nearly any other kind, for damaged files.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = next(name.removesuffix("data.pkl") for name in names if name.count("/") == 1 and name.endswith("/data.pkl"))
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise pickle.UnpicklingError("numbers of a big-endian machine")
        read = (member for member in archive.infolist() if member.filename.startswith((f"{root}data.pkl", f"{root}data/")))
        if any(member.compress_type != zipfile.ZIP_STORED for member in read):  # torch compresses programs only
            raise pickle.UnpicklingError("compressed tensors, which could become any size")
        stream = archive.read(f"{root}data.pkl")
        check_marks(stream)
        module = ModuleUnpickler(io.BytesIO(stream), lambda key: archive.read(f"{root}data/{key}")).load()
    if not isinstance(module, Module):
        raise pickle.UnpicklingError(f"{type(module).__name__} instead of a module")
    return tensors_of(module)


def tensors_of(module: Module, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a module and of those in it, by dotted name."""
    found: dict[str, Tensor] = {}
    for name, value in module.attributes.items():
        if isinstance(value, Module):
            found |= tensors_of(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            found[f"{prefix}{name}"] = value
    return found


class ModuleUnpickler(pickle.Unpickler):
    """Admits modules, tensors and plain values. ``storage``: the bytes of a key."""

    def __init__(self, file: IO[bytes], storage: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """What tensors and modules need. Raises UnpicklingError for every other name."""
        if module.startswith("__torch__"):
            return Module
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        admitted = {
            ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
            ("collections", "OrderedDict"): OrderedDict,
            **{("torch.jit._pickle", f"build_{kind}list"): partial(list) for kind in ("int", "double", "bool", "tensor")},
            ("torch.jit._pickle", "restore_type_tag"): plain_value,
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return admitted[module, name]

    def persistent_load(self, identity: tuple[str, torch.dtype, str, str, int]) -> Tensor:
        """A storage as a flat tensor (length,)."""
        kind, dtype, key, _, length = identity
        content = self._storage(key)
        if kind != "storage" or len(content) < length * dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(content)} bytes for {length} of {dtype}")
        return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def plain_value(value: object, _: str) -> object:
    """The value as it is."""
    return value


def rebuild_tensor(storage: Tensor, offset: int, shape: Sequence[int], strides: Sequence[int], *_: object) -> Tensor:
    """A view, of any shape, on a storage; torch refuses one that reaches beyond it. It shows every number once, so it is no
    larger."""
    if math.prod(shape) > storage.numel():
        raise pickle.UnpicklingError(f"a tensor {tuple(shape)} of {storage.numel()} numbers")
    return storage.as_strided(tuple(shape), tuple(strides), offset).clone()
