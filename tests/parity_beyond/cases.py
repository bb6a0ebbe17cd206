"""The folder with inputs and outputs of published code for techniques beyond the paper, and the index of its cases.

``WEAKCLIP_PARITY_BEYOND`` names the folder; without it these tests are skipped. ``WEAKCLIP_PARITY_BEYOND_INDEX`` names another
index than the one beside this file. An entry's ``arrays`` (shell patterns; all if it has none) are those of its file that its
test compares: `opened` fails where one of them was not looked at. Seeds, sizes and counts come from the folder, never from the
tests; factors of tolerances, which its description gives, from the index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tests.parity_data import Case, ParityData, marked

__all__ = ["DATA", "Case", "Stored", "cases", "folder", "index", "manifest", "marked", "opened", "seed", "weights"]

DATA = ParityData("WEAKCLIP_PARITY_BEYOND", Path(__file__).with_name("index.json"))
folder, index, cases, weights, golden = DATA.folder, DATA.index, DATA.cases, DATA.weights, DATA.golden


def manifest(case: Case, name: str = "manifest") -> dict[str, Any]:
    """The description that a field of the case names."""
    content: dict[str, Any] = json.loads((folder() / case[name]).read_text(encoding="utf-8"))
    return content


def seed(case: Case) -> int:
    """Of the inputs that `weights` makes; the whole folder has one."""
    number: int = manifest(case)["seed"]
    return number


class Stored:
    """The arrays of a case's file. Notes which of them a test has looked at."""

    def __init__(self, case: Case) -> None:
        self._golden = golden().Golden(case.path)
        self.seen: set[str] = set()

    @property
    def names(self) -> list[str]:
        return list(self._golden.names())

    def __contains__(self, name: str) -> bool:
        return name in self._golden.names()

    def numbers(self, pattern: str) -> list[int]:
        """The numbers that stand for the ``{}`` of a pattern: ``photo_shape_{}`` of a file with photo_shape_0 and _1: 0, 1."""
        before, after = pattern.split("{}")
        found = [
            name[len(before) : len(name) - len(after)]
            for name in self.names
            if name.startswith(before) and name.endswith(after)
        ]
        return sorted(int(number) for number in found if number.isdigit())

    def array(self, name: str) -> NDArray[Any]:
        """The array itself; for an input, which is stored whole."""
        assert self._golden.step(name) == 1, f"{name} is thinned"
        self.seen.add(name)
        array: NDArray[Any] = self._golden.stored(name)
        return array

    def shape(self, name: str) -> tuple[int, ...]:
        shape: tuple[int, ...] = self._golden.shape(name)
        return shape

    def check(self, name: str, mine: ArrayLike, *, atol: float = 0.0) -> None:
        """Compare with an absolute tolerance; 0 is exactly."""
        self.seen.add(name)
        self._golden.check(name, np.asarray(mine), atol=atol, rtol=0)

    def check_of_max(self, name: str, mine: ArrayLike, factor: float) -> None:
        """Compare; the error may be ``factor`` times the largest absolute stored value."""
        self.check(name, mine, atol=factor * float(np.abs(self._golden.stored(name)).max()))

    def agreement(self, name: str, mine: ArrayLike) -> float:
        """Share of equal entries."""
        self.seen.add(name)
        return float(self._golden.agreement(name, np.asarray(mine)))


@contextmanager
def opened(case: Case) -> Iterator[Stored]:
    """The case's arrays; fails where the block has not looked at all that the case claims."""
    stored = Stored(case)
    yield stored
    left = {name for name in stored.names if case.claims(name)} - stored.seen
    assert not left, f"{case.file}: not compared: {sorted(left)}"
