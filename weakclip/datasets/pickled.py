"""Dictionaries of arrays in ``.npy`` files, which the field's code saves with pickle: read without running what they say, and
written so that numpy of any age reads them."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from weakclip.errors import WeakClipError, of_the_machine
from weakclip.pickle_marks import check_marks

PLAIN_TYPE: Final = re.compile(r"[?biufcSUO]\d*")


class SavedType:
    """A number type as pickles spell it: a plain name, and a state that may only turn the bytes around.

    numpy's own `dtype` believes the rest of such a state too: a type may call eight bytes of the file an object, and whoever
    then looks at the array follows an address that the file has chosen.
    """

    def __init__(self, name: str, *_: object) -> None:
        if not PLAIN_TYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"the number type {name!r}")
        self.dtype: np.dtype[Any] = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *inner = state
        if any(part is not None for part in inner[:3]):  # what it is part of, names and places of parts
            raise pickle.UnpicklingError("a number type of several parts")
        self.dtype = self.dtype.newbyteorder(order)


class SavedArray:
    """An array as pickles spell it: begun empty, then given its shape, type and values."""

    array: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, by_column, values = state[-4:]  # a version may stand before them
        self.array = build_array(shape, kind, by_column, values)


def build_array(shape: tuple[int, ...], kind: SavedType, by_column: bool, values: Any) -> NDArray[Any]:
    """The array (shape) of values: a list for objects, bytes for anything else, exactly as many as it takes."""
    order: Literal["C", "F"] = "F" if by_column else "C"
    if kind.dtype.hasobject:
        if not isinstance(values, list):
            raise pickle.UnpicklingError("objects that are no list")
        objects = np.empty(len(values), dtype=object)
        for place, value in enumerate(values):
            objects[place] = value
        return objects.reshape(shape, order=order)
    content = values.encode("latin1") if isinstance(values, str) else bytes(values)  # Python 2 wrote text for bytes
    if len(content) != kind.dtype.itemsize * math.prod(shape):
        raise pickle.UnpicklingError(f"{len(content)} bytes for {shape} of {kind.dtype}")
    return np.ndarray(shape, kind.dtype, bytearray(content), order=order)


def begin_array(*_: object) -> SavedArray:
    """Stands for numpy's `_reconstruct`, which makes the empty array that a state fills."""
    return SavedArray()


def array_on_buffer(values: Any, kind: SavedType, shape: tuple[int, ...], order: str, *_: object) -> SavedArray:
    """Stands for numpy's `_frombuffer`."""
    saved = SavedArray()
    saved.array = build_array(shape, kind, order == "F", values)
    return saved


def scalar(kind: SavedType, value: Any) -> Any:
    """Stands for numpy's function of that name: a number of a type."""
    if kind.dtype.hasobject:
        raise pickle.UnpicklingError("a number that is an object")
    return build_array((), kind, False, value)[()]


def latin_bytes(text: str, encoding: str) -> bytes:
    """Bytes as protocol 2 spells them: `_codecs.encode`, cut down to the one encoding that pickle uses."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding}")
    return text.encode("latin1")


# Nothing of numpy itself: its functions trust a pickle, and one that was made for the purpose has them read or write where
# there is no array. numpy has moved them between modules.
ADMITTED: Final[dict[tuple[str, str], Any]] = {
    ("_codecs", "encode"): latin_bytes,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): "numpy.ndarray",  # named by arrays, never called
    ("numpy", "dtype"): SavedType,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): begin_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): array_on_buffer for core in ("core", "_core")},
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset, complex)},
}


class ArrayUnpickler(pickle.Unpickler):
    """Admits arrays, numbers, strings and containers of them, and nothing that could run code. `plain` follows it."""

    def find_class(self, module: str, name: str) -> Any:
        """A name that numpy arrays need. Raises UnpicklingError for every other one."""
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return ADMITTED[module, name]


def plain(value: Any, done: dict[int, Any] | None = None) -> Any:
    """The value with arrays and types in place of what stood for them while it was read.

    ``done``: what became of the containers that were met before, by their identity. A short file can name one list many times
    in another, that one many times in a third and so on, and all their places would not fit into any memory.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    result = value
    match value:
        case SavedArray():
            result = value.array
            if result.dtype.hasobject and result.size:
                result = np.vectorize(partial(plain, done=done), otypes=[object])(result)
        case SavedType():
            return value.dtype
        case dict():
            result = type(value)((plain(key, done), plain(entry, done)) for key, entry in value.items())
        case list() | tuple() | set() | frozenset():
            result = type(value)(plain(entry, done) for entry in value)
        case _:
            return value
    done[id(value)] = result
    return result


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
        if of_the_machine(error):
            raise
        raise WeakClipError(f"{path} is not a dictionary saved by numpy: {error}", hint) from error
    if not isinstance(value, dict):
        raise WeakClipError(f"{path} is not a dictionary saved by numpy: it holds {type(value).__name__}", hint)
    return value


def read_object(file: BinaryIO) -> Any:
    """The object of an ``.npy`` file that holds a single one, read by `ArrayUnpickler`. Raises ValueError where it holds
    something else."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype != np.dtype(object):
        raise ValueError(f"it holds an array {shape} of {dtype}")
    stream = file.read()
    check_marks(stream)
    saved = ArrayUnpickler(io.BytesIO(stream), encoding="latin1").load()
    if not isinstance(saved, SavedArray) or saved.array.dtype != np.dtype(object) or saved.array.size != 1:
        raise ValueError("it holds several objects")
    return plain(saved.array.reshape(-1)[0])


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
