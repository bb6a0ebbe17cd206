"""Files are written in a thread while the caller computes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

WAITING: Final = 2  # calls


class WriteBehind:
    """Makes calls in a thread, one after the other; a context, at whose end all have been made.

    ``waiting``: how many may wait, so that what they hold in memory is bounded. What a call raises, a later one or the end of
    the context raises; the calls behind it are made all the same.
    """

    def __init__(self, waiting: int = WAITING) -> None:
        self._waiting = waiting
        self._thread = ThreadPoolExecutor(1)
        self._calls: deque[Future[object]] = deque()

    def __call__(self, write: Callable[..., object], *arguments: object) -> None:
        while len(self._calls) >= self._waiting:
            self._calls.popleft().result()
        self._calls.append(self._thread.submit(write, *arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._thread.shutdown()
        if error is None:
            for call in self._calls:
                call.result()
