"""The next batch is made while the current one is computed with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """``make(step)`` of ascending steps, ``ahead`` of them in a thread before they are asked for."""

    def __init__(self, make: Callable[[int], T], last: int, ahead: int = 2) -> None:
        self._make, self._last, self._ahead = make, last, ahead
        self._pool = ThreadPoolExecutor(1)
        self._waiting: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        for coming in range(step, min(step + self._ahead, self._last) + 1):
            if coming not in self._waiting:
                self._waiting[coming] = self._pool.submit(self._make, coming)
        return self._waiting.pop(step).result()

    def close(self) -> None:
        """Drops what was made ahead."""
        self._pool.shutdown(cancel_futures=True)
