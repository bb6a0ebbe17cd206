"""Work for other processes, which goes on while this one computes; with one worker it is done here, at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from joblib.externals.loky import get_reusable_executor

from weakclip.errors import WeakClipError
from weakclip.workers import workers

Result = TypeVar("Result")


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
    executor: Executor = get_reusable_executor(max_workers=workers(), timeout=None)
    return executor


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
