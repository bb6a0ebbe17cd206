"""MXNet's ``.params`` files, read with numpy alone.

A file is little-endian: a magic number (8 bytes) and 8 reserved bytes, the number of arrays (8 bytes), the arrays, the number
of names (8 bytes), and the names, each with its length (8 bytes) before it. Three versions of an array have been written; all
have a shape, a device (two numbers of 4 bytes), a number type (4 bytes) and the values. Known from MXNet's
`src/ndarray/ndarray.cc`.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from weakclip.errors import WeakClipError

MAGIC: Final = 0x112
# What an array begins with; the oldest version begins with its number of dimensions instead.
SECOND_VERSION: Final = 0xF993FAC8  # dimensions are of 8 bytes, not of 4
THIRD_VERSION: Final = 0xF993FAC9  # as the second, after a number that says how it is stored: 0 is dense
NUMBER_TYPES: Final = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")
MOST_DIMENSIONS: Final = 32
HINT: Final = "download the file anew; MXNet's `nd.save` writes such files"


def read_params(path: Path) -> dict[str, Tensor]:
    """The arrays of a ``.params`` file by name, as they are stored, such as ``arg:conv1a_weight``.

    Raises:
        WeakClipError: names the file that is missing, truncated, of the other byte order, or not of this kind.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", "put the file there, or give deeplab.encoder_weights another path") from error
    reader = _Reader(path, data)
    magic = data[:8]
    if magic == MAGIC.to_bytes(8, "big"):
        raise reader.refused("was written on a big-endian machine", "convert it there, or use a copy from another machine")
    if len(magic) == 8 and magic != MAGIC.to_bytes(8, "little"):
        raise reader.refused(f"is not a .params file: it begins with {magic.hex(' ')}")
    reader.numbers("QQ")
    arrays = [_read_array(reader) for _ in range(reader.count())]
    names = [reader.take(reader.count()).decode("utf-8", "replace") for _ in range(reader.count())]
    if len(names) != len(arrays):
        raise reader.refused(f"names {len(names)} of its {len(arrays)} arrays")
    if reader.left:
        raise reader.refused(f"goes on for {reader.left} bytes after its last name")
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """A place in the bytes of a file."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = memoryview(data)
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def refused(self, problem: str, hint: str = HINT) -> WeakClipError:
        return WeakClipError(f"{self._path} {problem}", hint)

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise self.refused(f"is truncated: it ends {length - self.left:,} bytes too early")
        self._at += length
        return bytes(self._data[self._at - length : self._at])

    def numbers(self, layout: str) -> tuple[int, ...]:
        layout = f"<{layout}"
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def count(self) -> int:
        """A number of things of at least a byte each."""
        (number,) = self.numbers("Q")
        if number > self.left:
            raise self.refused(f"is truncated or damaged: it announces {number:,} items, {self.left:,} bytes are left")
        return number


def _read_array(reader: _Reader) -> Tensor:
    (version,) = reader.numbers("I")
    if version == THIRD_VERSION:
        (storage,) = reader.numbers("i")
        if storage != 0:
            raise reader.refused("holds a sparse array", "save the arrays dense: `array.tostype('default')`")
    wide = version in (SECOND_VERSION, THIRD_VERSION)
    (dimensions,) = reader.numbers("I") if wide else (version,)
    if dimensions > MOST_DIMENSIONS:
        raise reader.refused(f"is damaged, or of an unknown version: an array begins with {version:#x}")
    shape = reader.numbers(f"{dimensions}{'q' if wide else 'I'}")
    if dimensions == 0:  # an array that was never filled; nothing follows
        return torch.empty(0)
    _, _, number_type = reader.numbers("iii")
    if not 0 <= number_type < len(NUMBER_TYPES) or any(side < 0 for side in shape):
        raise reader.refused(f"is damaged: an array has the shape {shape} and the number type {number_type}")
    kind = np.dtype(NUMBER_TYPES[number_type])
    content = reader.take(kind.itemsize * math.prod(shape))
    try:
        values = np.frombuffer(content, kind).reshape(shape)
    except ValueError as error:  # one side is 0, others are too large for any array
        raise reader.refused(f"is damaged: an array has the shape {shape}") from error
    return torch.from_numpy(values.astype(kind.newbyteorder("=")))
