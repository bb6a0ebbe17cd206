"""Pickled dictionaries of arrays, and only those."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weakclip.datasets.pickled import read_pickled_dictionary, write_pickled_dictionary
from weakclip.errors import WeakClipError


class Attack:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def save(path: Path, value: Any, protocol: int = 4) -> Path:
    """As numpy.save does, with a choice of protocol."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        array = np.empty((), dtype=object)
        array[()] = value
        pickle.dump(array, file, protocol=protocol)
    return path


def refused(path: Path) -> str:
    with pytest.raises(WeakClipError) as info:
        read_pickled_dictionary(path)
    assert str(path) in info.value.problem
    return info.value.problem


def test_what_numpy_saves_is_read(tmp_path: Path) -> None:
    value = {"2007_000032": np.array([1.0, 0.0], dtype=np.float32), "b": [np.float64(2), (1, True, None, "é")], "c": {1}}
    np.save(tmp_path / "a.npy", np.array(value, dtype=object), allow_pickle=True)
    again = read_pickled_dictionary(tmp_path / "a.npy")
    np.testing.assert_array_equal(again["2007_000032"], value["2007_000032"])
    assert again["2007_000032"].dtype == np.float32
    assert again["b"] == value["b"] and again["c"] == {1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    value = OrderedDict(x=np.arange(6, dtype=np.int16).reshape(2, 3), y=np.array(["a", "bc"]), z=b"\xff")
    again = read_pickled_dictionary(save(tmp_path / "a.npy", value, protocol))
    np.testing.assert_array_equal(again["x"], value["x"])
    np.testing.assert_array_equal(again["y"], value["y"])
    assert again["z"] == b"\xff"


def test_names_of_numpy_1_are_known(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", {"x": np.zeros(3)}, protocol=2)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_pickled_dictionary(path)["x"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {marker}",), "posix.system"),
        (eval, ("open('{marker}', 'w')",), "builtins.eval"),
        (getattr, ("a", "upper"), "builtins.getattr"),
        (pickle.loads, (b"N.",), "_pickle.loads"),
        (np.load, ("x.npy",), "numpy.load"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_refused_by_name_and_not_run(
    tmp_path: Path, function: Any, arguments: tuple[Any, ...], name: str, protocol: int
) -> None:
    marker = tmp_path / "marker"
    filled = [a.format(marker=marker) if isinstance(a, str) else a for a in arguments]
    problem = refused(save(tmp_path / "a.npy", {"x": Attack(function, *filled)}, protocol))
    assert "more than arrays and containers" in problem
    assert name.rpartition(".")[2] in problem
    assert not marker.exists()


class Called:
    """Pickles as a call of the function, and then a state for its result."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments, self.state


ADDRESS = b"A" * 8  # what numpy would take for the place of an object
WITH_OBJECTS = Called(np.dtype, ("V8",), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))
RECONSTRUCT, FIRST_ARGUMENTS = np.zeros(1).__reduce__()[:2]
SCALAR = np.float64(0).__reduce__()[0]


@pytest.mark.parametrize(
    "forged",
    [
        Called(np.ndarray, ((1,), np.dtype("O"), ADDRESS)),
        Called(RECONSTRUCT, FIRST_ARGUMENTS, (1, (1,), WITH_OBJECTS, False, ADDRESS)),
        Called(RECONSTRUCT, FIRST_ARGUMENTS, (1, (1,), np.dtype("O"), False, ADDRESS)),
        Called(RECONSTRUCT, FIRST_ARGUMENTS, (1, (1 << 40,), np.dtype("f8"), False, ADDRESS)),
        Called(RECONSTRUCT, FIRST_ARGUMENTS, (1, (-1,), np.dtype("f8"), False, ADDRESS)),
        Called(SCALAR, (np.dtype("O"), ADDRESS)),
        Called(SCALAR, (np.dtype("f8"), b"A")),
        Called(RECONSTRUCT, FIRST_ARGUMENTS),
    ],
    ids=["buffer", "parts", "objects", "short", "negative", "scalar of objects", "short scalar", "never filled"],
)
def test_arrays_on_memory_that_is_not_theirs_are_refused(tmp_path: Path, forged: Called) -> None:
    # Each of the first three made numpy itself follow an address out of the file when the array was converted.
    refused(save(tmp_path / "a.npy", {"x": forged}, protocol=2))


@pytest.mark.parametrize("mark", [b"r\xff\xff\xff\x7f", b"p2147483647\n"])
def test_a_short_file_cannot_ask_for_gigabytes(tmp_path: Path, mark: bytes) -> None:
    path = save(tmp_path / "a.npy", {"x": 1}, protocol=2)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"}", b"}" + mark, 1) if content.count(b"}") == 1 else content[:-1] + mark + b".")
    assert "2147483647" in refused(path)


def test_bytes_that_would_fill_any_memory_are_refused_by_the_files_name(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", {"x": 1}, protocol=4)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x8e" + (2**50).to_bytes(8, "little") + b".")
    refused(path)


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 20)))
    assert "(2, 20) of float64" in refused(tmp_path / "a.npy")
    assert "it holds list" in refused(save(tmp_path / "b.npy", [1]))
    (tmp_path / "c.npy").write_text("hello")
    assert "not a dictionary saved by numpy" in refused(tmp_path / "c.npy")
    path = save(tmp_path / "d.npy", {"x": np.zeros(30)})
    path.write_bytes(path.read_bytes()[:-40])
    refused(path)
    assert "is missing" in refused(tmp_path / "e.npy")


def test_what_is_written_is_read_and_has_the_same_bytes_again(tmp_path: Path) -> None:
    value = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([3, 5]), 7: "text", "n": np.float64(2.5)}
    write_pickled_dictionary(tmp_path / "a.npy", value)
    again = read_pickled_dictionary(tmp_path / "a.npy")
    assert list(again) == list(value) and again[7] == "text" and again["n"] == 2.5
    np.testing.assert_array_equal(again["a"], value["a"])
    write_pickled_dictionary(tmp_path / "b.npy", again)
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


def test_what_is_written_names_no_module_that_numpy_1_lacks(tmp_path: Path) -> None:
    marker = b"cnumpy._core.multiarray\n"  # as data it stays
    value = {"a": np.frombuffer(marker, np.uint8), "b": np.float32(1)}
    write_pickled_dictionary(tmp_path / "a.npy", value)
    content = (tmp_path / "a.npy").read_bytes()
    assert content.count(b"_core") == 1 and content.count(b"numpy.core.multiarray") >= 2
    assert read_pickled_dictionary(tmp_path / "a.npy")["a"].tobytes() == marker


def test_a_short_file_cannot_name_one_list_more_often_than_there_is_room(tmp_path: Path) -> None:
    nested: list[object] = []
    for _ in range(60):  # 2 to the power of 60 places
        nested = [nested, nested]
    write_pickled_dictionary(tmp_path / "a.npy", {"a": nested})
    assert (tmp_path / "a.npy").stat().st_size < 1000
    found = read_pickled_dictionary(tmp_path / "a.npy")["a"]
    assert found[0] is found[1] and len(found) == 2
