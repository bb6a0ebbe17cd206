"""Dictionaries of arrays in ``.npy`` files, which the field's code saves with pickle: read without running what they say, and
written so that numpy of any age reads them."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from weakclip.errors import WeakClipError

# Taken from arrays and scalars themselves: numpy has moved these functions between modules.
REBUILD_ARRAY: Final = np.zeros(1).__reduce__()[0]
REBUILD_SCALAR: Final = np.float64(0).__reduce__()[0]
REBUILD_BUFFER: Final = np.zeros(1).__reduce_ex__(5)[0]


def latin_bytes(text: str, encoding: str) -> bytes:
    """Bytes as protocol 2 spells them: `_codecs.encode`, cut down to the one encoding that pickle uses."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding}")
    return text.encode("latin1")


ADMITTED: Final[dict[tuple[str, str], Any]] = {
    ("_codecs", "encode"): latin_bytes,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): REBUILD_ARRAY for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): REBUILD_SCALAR for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): REBUILD_BUFFER for core in ("core", "_core")},
    **{
        (module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset, bytearray, complex)
    },
}


class ArrayUnpickler(pickle.Unpickler):
    """Admits numpy arrays, numbers, strings and containers of them, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return ADMITTED[module, name]


def read_pickled_dictionary(path: Path) -> dict[Any, Any]:
    """The dictionary that ``numpy.save`` wrote into a ``.npy`` file.

    Raises:
        WeakClipError: names the file that is missing, damaged, no dictionary, or holds anything but arrays and containers.
    """
    hint = "save it anew: numpy.save(path, {image id: array})"
    try:
        with path.open("rb") as file:
            value = read_object(file)
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", "put it there") from error
    except pickle.UnpicklingError as error:
        raise WeakClipError(f"{path} holds more than arrays and containers: {error}", hint) from error
    # A damaged stream makes the unpickler raise nearly anything.
    except Exception as error:
        raise WeakClipError(f"{path} is not a dictionary saved by numpy: {error}", hint) from error
    if not isinstance(value, dict):
        raise WeakClipError(f"{path} is not a dictionary saved by numpy: it holds {type(value).__name__}", hint)
    return value


def read_object(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype != np.dtype(object):
        raise ValueError(f"it holds an array {shape} of {dtype}")
    array = ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(object) or array.size != 1:
        raise ValueError("it holds several objects")
    return array.reshape(-1)[0]


def write_pickled_dictionary(path: Path, value: Mapping[Any, Any]) -> None:
    """Write a dictionary of arrays, numbers and strings as ``numpy.save`` does; `read_pickled_dictionary` reads it.

    The same value gives the same bytes, and numpy 1, which the field's code runs on, reads what numpy 2 writes here.
    """
    array = np.empty((), dtype=object)
    array[()] = dict(value)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(file.getvalue() + names_of_numpy_1(pickle.dumps(array, protocol=3)))


def names_of_numpy_1(stream: bytes) -> bytes:
    """A pickle of protocol 3 with ``numpy.core`` for ``numpy._core``: both numpy 1 and 2 know the former."""
    parts, done = [], 0
    for opcode, argument, position in pickletools.genops(stream):
        if opcode.name == "GLOBAL" and str(argument).startswith("numpy._core."):
            assert position is not None
            start = position + len("cnumpy.")
            parts += [stream[done:start], b"core"]
            done = start + len("_core")
    return b"".join([*parts, stream[done:]])
