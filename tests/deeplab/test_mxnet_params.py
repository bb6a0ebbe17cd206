"""MXNet's files, written here as its sources describe them: there is no MXNet to write them."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from weakclip.deeplab.mxnet_params import read_params
from weakclip.errors import WeakClipError

TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
ARRAYS = {
    "arg:conv1a_weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "aux:bn7_moving_var": np.array([0.5, 2.0], np.float64),
    "arg:half": np.array([[1.5, -2.0]], np.float16),
    "arg:whole": np.array([-3, 4], np.int64),
}


def array_bytes(array: np.ndarray, version: int, order: str = "<") -> bytes:
    """``version``: 0 is the oldest, with dimensions of 4 bytes."""
    head = {
        0: struct.pack(f"{order}I{array.ndim}I", array.ndim, *array.shape),
        1: struct.pack(f"{order}II{array.ndim}q", 0xF993FAC8, array.ndim, *array.shape),
        2: struct.pack(f"{order}IiI{array.ndim}q", 0xF993FAC9, 0, array.ndim, *array.shape),
    }[version]
    return (
        head
        + struct.pack(f"{order}iii", 2, 0, TYPES[array.dtype.name])
        + array.astype(array.dtype.newbyteorder(order)).tobytes()
    )


def params_bytes(arrays: dict[str, np.ndarray], version: int, order: str = "<", magic: int = 0x112) -> bytes:
    data = struct.pack(f"{order}QQQ", magic, 0, len(arrays))
    data += b"".join(array_bytes(array, version, order) for array in arrays.values())
    data += struct.pack(f"{order}Q", len(arrays))
    return data + b"".join(struct.pack(f"{order}Q", len(name)) + name.encode() for name in arrays)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_all_versions_and_number_types_are_read(tmp_path: Path, version: int) -> None:
    file = tmp_path / "a.params"
    file.write_bytes(params_bytes(ARRAYS, version))
    found = read_params(file)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == getattr(torch, array.dtype.name) and np.array_equal(found[name].numpy(), array)


@pytest.mark.parametrize("version", [0, 2])
def test_a_file_that_ends_anywhere_too_early_is_refused_by_name(tmp_path: Path, version: int) -> None:
    file = tmp_path / "half.params"
    whole = params_bytes(ARRAYS, version)
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(WeakClipError, match=r"half\.params is truncated"):
            read_params(file)


def test_the_other_byte_order_and_other_files_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "b.params"
    file.write_bytes(params_bytes(ARRAYS, 2, order=">"))
    with pytest.raises(WeakClipError, match=r"b\.params was written on a big-endian machine"):
        read_params(file)
    file.write_bytes(params_bytes(ARRAYS, 2, magic=0x113))
    with pytest.raises(WeakClipError, match=r"b\.params is not a \.params file: it begins with 13 01 00"):
        read_params(file)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(WeakClipError, match=r"is not a \.params file"):
        read_params(file)
    with pytest.raises(WeakClipError, match=r"none\.params is missing"):
        read_params(tmp_path / "none.params")


def test_damage_inside_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.params"
    file.write_bytes(params_bytes(ARRAYS, 2) + b"more")
    with pytest.raises(WeakClipError, match="goes on for 4 bytes after its last name"):
        read_params(file)
    one = {"a": np.zeros(2, np.float32)}
    for place, value, words in (
        (24, 0xF993FAFF, "unknown version: an array begins with 0xf993faff"),
        (28, 1, "holds a sparse array"),
        (32, 99, "is damaged, or of an unknown version"),
        (52, 12, r"the shape \(2,\) and the number type 12"),
    ):
        data = bytearray(params_bytes(one, 2))
        data[place : place + 4] = struct.pack("<I", value)
        file.write_bytes(bytes(data))
        with pytest.raises(WeakClipError, match=words):
            read_params(file)
    data = bytearray(params_bytes(one, 2))
    data[16:24] = struct.pack("<Q", 2**60)
    file.write_bytes(bytes(data))
    with pytest.raises(WeakClipError, match="truncated or damaged: it announces"):
        read_params(file)
    unnamed = struct.pack("<QQQ", 0x112, 0, 1) + array_bytes(one["a"], 2) + struct.pack("<Q", 0)
    file.write_bytes(unnamed)
    with pytest.raises(WeakClipError, match="names 0 of its 1 arrays"):
        read_params(file)


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.params"
    path.write_bytes(pickle.dumps(Attack(tmp_path / "marker"), protocol=protocol))
    with pytest.raises(WeakClipError, match=r"a\.params is not a \.params file"):
        read_params(path)
    assert not (tmp_path / "marker").exists()
