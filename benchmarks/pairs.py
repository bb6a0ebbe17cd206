"""Several ways of doing one thing, timed in turns, and the ratio of two of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Timed = Callable[[], float]
"""Does the thing once; returns the seconds it took."""


def timed(work: Callable[[], object]) -> Timed:
    """A function without a result as one that returns its seconds."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def alternate(ways: Mapping[str, Timed], rounds: int, warm_up: int = 1) -> dict[str, tuple[float, ...]]:
    """Seconds of every way in each round, after ``warm_up`` rounds that do not count.

    Every second round goes backwards, so that a machine which grows slower or faster favours none.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-warm_up, rounds):
        for name in ways if number % 2 == 0 else reversed(list(ways)):
            taken = ways[name]()
            if number >= 0:
                seconds[name].append(taken)
    return {name: tuple(values) for name, values in seconds.items()}


@dataclass(frozen=True)
class Pair:
    """Seconds of two ways, round by round: ``ours[i]`` and ``theirs[i]`` were taken one after the other."""

    ours: Sequence[float]
    theirs: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.ours) != len(self.theirs) or not self.ours or min(*self.ours, *self.theirs) <= 0:
            raise ValueError(f"expected equally many positive times, got {self.ours} and {self.theirs}")

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times faster ours was in each round."""
        return tuple(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> float:
        """From the lowest to the highest of `ratios`."""
        return max(self.ratios) - min(self.ratios)
