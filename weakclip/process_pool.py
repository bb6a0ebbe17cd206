"""Work for other processes, which goes on while this one computes; with one worker it is done here, at once.

The processes end when this one does, even if it is killed.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor, process_executor

from weakclip.errors import WeakClipError
from weakclip.workers import workers

Result = TypeVar("Result")
GLANCE: Final = 1.0  # seconds between two looks at whether the parent is there

HINT: Final = "run the stage again, it keeps what is finished; `WEAKCLIP_WORKERS=1` needs the least memory"

END_OF_NOTE: Final = b"\0"  # what stands behind it in the file is the rest of a longer note before

_notes: Path | None = None  # in a worker process: the file in which it notes what it works on
_noting: FileIO | None = None  # that file, once there is a note: opening it takes longer than some of the work
_working_on = ""  # what this process has noted last of its task


class WorkerDiedError(WeakClipError):
    """A process of the pool was killed. ``working_on``: what the processes had noted then, one of which is to blame."""

    def __init__(self, working_on: Iterable[str]) -> None:
        super().__init__(f"a worker process died (killed, or out of memory){_while(working_on)}", HINT)

    def __reduce__(self) -> tuple[type[WeakClipError], tuple[str, str]]:
        return WeakClipError, (self.problem, self.hint)


class ThisProcess(Executor):
    """Does a task when it is handed over."""

    def submit(self, function: Callable[..., Result], /, *arguments: object, **named: object) -> Future[Result]:
        """Call the function here and now; what it raises is raised here."""
        task: Future[Result] = Future()
        task.set_result(function(*arguments, **named))
        return task


def process_pool(count: int) -> Executor:
    """That many processes, started when they are first needed, and kept for whoever asks next."""
    if count == 1:
        return ThisProcess()
    executor: Executor = get_reusable_executor(
        max_workers=count,
        timeout=None,
        initializer=end_with,
        initargs=(os.getpid(),),
        env={"OMP_NUM_THREADS": "1"},  # there is a process for each core
    )
    return executor


class KeptProcesses:
    """Processes that are told apart: what a task leaves in one of them is there for that one's next task.

    They are started when they are first needed; one alone is this process, unless it is to be ``apart``. Usable as a context,
    at whose end they finish the tasks that they have, and are gone.
    """

    def __init__(self, count: int, *, apart: bool = False) -> None:
        self._executors: dict[int, Executor] = {} if count > 1 or apart else {0: ThisProcess()}
        self._count = count

    def __len__(self) -> int:
        return self._count

    def _executor(self, where: int) -> Executor:
        if where not in self._executors:
            start = {"timeout": None, "initializer": _stay_with, "initargs": (os.getpid(),)}
            self._executors[where] = ProcessPoolExecutor(max_workers=1, **start)
        return self._executors[where]

    def submit(self, where: int, function: Callable[..., Result], *arguments: object) -> Callable[[], Result]:
        """Let a process do a task after those that it has; returns the function that waits for the result.

        Both raise WorkerDiedError when the process is killed. Waiting raises what the function raises, and WeakClipError where
        there is not enough memory; in this process that is raised at once.
        """
        with _deaths_named(None):
            task = self._executor(where).submit(_noted, None, function, *arguments)

        def result() -> Result:
            with _deaths_named(None):
                return task.result()

        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for executor in self._executors.values():
            if isinstance(executor, ProcessPoolExecutor):
                executor.shutdown()  # after their tasks; when told to kill them, loky's thread fails at one on its way to them


def _stay_with(parent: int) -> None:
    """`end_with`, and until then: loky would replace a process that holds much more after a task than after its first one."""
    process_executor._USE_PSUTIL = False
    end_with(parent)


def end_with(parent: int) -> None:
    """Let this process end when its parent does; left alone, it would wait for work for minutes, or for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(GLANCE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def note(name: str) -> None:
    """Say what is worked on from now on: if there is no memory for it, or this worker process is killed, the error names it."""
    global _working_on, _noting
    _working_on = name
    if _notes is not None:
        with suppress(OSError):  # without it an error would say less, and nothing else
            if _noting is None:
                _noting = FileIO(_notes, "w")
            _noting.seek(0)
            _noting.write(name.encode("utf-8", errors="replace") + END_OF_NOTE)


def in_processes(
    function: Callable[..., Result], tasks: Iterable[tuple[object, ...]], count: int | None = None
) -> Iterator[Result]:
    """The function's results for the tasks' arguments, in order; tasks are taken a few ahead, so that memory stays flat.

    ``count``: how many processes, all that there may be where it is None. Raises what the function or the tasks raise;
    WorkerDiedError when a process is killed, with what the processes had noted (`note`); and WeakClipError with that where
    there is not enough memory.
    """
    count = workers() if count is None else count
    pool, ahead = process_pool(count), 2 * count
    waiting: deque[Future[Result]] = deque()
    with tempfile.TemporaryDirectory(prefix="weakclip-") if count > 1 else nullcontext() as folder:
        notes = None if folder is None else Path(folder)
        try:
            with _deaths_named(notes):
                for arguments in tasks:
                    waiting.append(pool.submit(_noted, notes, function, *arguments))
                    if len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
        finally:
            for task in waiting:
                task.cancel()


@contextmanager
def _deaths_named(notes: Path | None) -> Iterator[None]:
    """A killed process is a WorkerDiedError, with what the processes noted last in the folder."""
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerDiedError([] if notes is None else _noted_last(notes)) from error


def _noted(folder: Path | None, function: Callable[..., Result], *arguments: object) -> Result:
    """Do a task; what it notes is forgotten when it is done."""
    global _notes, _noting, _working_on
    _notes, _working_on = None if folder is None else folder / str(os.getpid()), ""
    try:
        return function(*arguments)
    except MemoryError as error:
        raise WeakClipError(f"a process has not enough memory{_while([_working_on])}", HINT) from error
    finally:
        if _notes is not None and _noting is not None:
            _noting.close()
            _notes.unlink(missing_ok=True)
        _notes = _noting = None


def _while(working_on: Iterable[str]) -> str:
    names = " or ".join(sorted(filter(None, working_on)))
    return f" while it worked on {names}" if names else ""


def _noted_last(folder: Path) -> list[str]:
    notes = (path.read_bytes().partition(END_OF_NOTE)[0] for path in folder.iterdir())
    return [text.decode("utf-8", errors="replace") for text in notes]
