"""Work for other processes, which goes on while this one computes; with one worker it is done here, at once.

The processes end when this one does, even if it is killed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from typing import Final, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor

from weakclip.errors import WeakClipError
from weakclip.workers import workers

Result = TypeVar("Result")
GLANCE: Final = 1.0  # seconds between two looks at whether the parent is there


class ThisProcess(Executor):
    """Does a task when it is handed over."""

    def submit(self, function: Callable[..., Result], /, *arguments: object, **named: object) -> Future[Result]:
        task: Future[Result] = Future()
        task.set_result(function(*arguments, **named))
        return task


def process_pool() -> Executor:
    """As many processes as there may be, started when they are first needed, and kept for whoever asks next."""
    if workers() == 1:
        return ThisProcess()
    executor: Executor = get_reusable_executor(
        max_workers=workers(), timeout=None, initializer=end_with, initargs=(os.getpid(),)
    )
    return executor


def parallel(processes: int, *, ordered: bool = True) -> joblib.Parallel:
    """joblib's processes, for tasks that are worth a call each; results come as they are asked for, in order or as they are
    ready. With one process it is this one.
    """
    return joblib.Parallel(
        n_jobs=max(1, processes),
        return_as="generator" if ordered else "generator_unordered",
        batch_size=1,
        initializer=end_with,
        initargs=(os.getpid(),),
    )


def end_with(parent: int) -> None:
    """Let this process end when its parent does; left alone, it would wait for work for minutes, or for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(GLANCE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def in_processes(function: Callable[..., Result], tasks: Iterable[tuple[object, ...]]) -> Iterator[Result]:
    """The function's results for the tasks' arguments, in order; tasks are taken a few ahead, so that memory stays flat.

    Raises what the function or the tasks raise, and WeakClipError when a process is killed.
    """
    pool, ahead = process_pool(), 2 * workers()
    waiting: deque[Future[Result]] = deque()
    try:
        for arguments in tasks:
            waiting.append(pool.submit(function, *arguments))
            if len(waiting) > ahead:
                yield result_of(waiting.popleft())
        while waiting:
            yield result_of(waiting.popleft())
    finally:
        for task in waiting:
            task.cancel()


def result_of(task: Future[Result]) -> Result:
    """Waits for a task of the pool; raises what it raised, and WeakClipError when its process was killed."""
    try:
        return task.result()
    except BrokenProcessPool as error:
        raise WeakClipError(
            "a worker process died (killed, or out of memory)",
            "run the stage again, it keeps what is finished; `WEAKCLIP_WORKERS=1` needs the least memory",
        ) from error
