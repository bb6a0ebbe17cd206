"""Batches through a network side by side, each on a share of the CPU's threads.

Threads that share one batch wait for each other after every operation; threads with a batch each do not, and lose nothing
when one of them is held up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

import torch

from weakclip.device import device

T = TypeVar("T")
R = TypeVar("R")
MOST: Final = 4  # batches at a time: each takes memory for itself


@contextmanager
def side_by_side() -> Iterator[int]:
    """Yields how many batches to have in hand: up to 4 on a CPU, torch's threads being shared out to them, and 1 elsewhere."""
    threads = torch.get_num_threads()
    batches = min(threads, MOST) if device().type == "cpu" else 1
    torch.set_num_threads(threads // batches)
    try:
        yield batches
    finally:
        torch.set_num_threads(threads)


def map_ahead(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[R]:
    """Results in the order of the items, computed in threads; up to ``ahead`` items are taken before a result is asked for."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
