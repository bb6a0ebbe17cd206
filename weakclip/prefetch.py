"""The next batches are made while the current one is computed with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """``make(step)`` of ascending steps, ``ahead`` of them made before they are asked for, in as many as ``threads`` at a time.

    With several threads ``make`` has to allow it, and what it returns must not depend on the order of the calls.
    """

    def __init__(self, make: Callable[[int], T], last: int, ahead: int = 1, threads: int = 1) -> None:
        self._make, self._last, self._ahead = make, last, max(ahead, threads)
        self._pool = ThreadPoolExecutor(threads)
        self._waiting: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        for coming in range(step, min(step + self._ahead, self._last) + 1):
            if coming not in self._waiting:
                self._waiting[coming] = self._pool.submit(self._make, coming)
        return self._waiting.pop(step).result()

    def made(self, step: int) -> T | None:
        """What was made ahead for a step, that can still ask for it; None where it is not there yet, or could not be made."""
        coming = self._waiting.get(step)
        return coming.result() if coming is not None and coming.done() and coming.exception() is None else None

    def close(self) -> None:
        """Drops what was made ahead."""
        self._pool.shutdown(cancel_futures=True)
