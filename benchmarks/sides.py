"""One side of a comparison in a process of its own, which does one thing whenever it is asked to.

Two sides that each need gigabytes and their own settings can so be timed in turns, and each one's memory is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from joblib.externals.loky import get_reusable_executor

from benchmarks.memory import peak_memory


class StoppedError(Exception):
    """Raised in a side's work when it is asked for no more."""


class Gate:
    """What a side's work calls before each thing it does: waits to be asked, and reports how long the last one took.

    ``figures``: what the work wants to tell beside times; sent when it is stopped.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._started: float | None = None
        self.figures: dict[str, float] = {}

    def __call__(self) -> None:
        now = time.perf_counter()
        self._connection.send(None if self._started is None else now - self._started)
        if not self._connection.recv():
            self._connection.send({**self.figures, "peak_bytes": peak_memory()})
            raise StoppedError
        self._started = time.perf_counter()


class Side:
    """Runs ``work(gate, *arguments)`` in a new process; a call lets it do one thing and returns its seconds.

    ``environment``: variables that are set in that process. Usable as a context, at whose end the process is gone.
    """

    def __init__(self, work: Callable[..., None], *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, work, arguments, dict(environment or {})))
        self._process.start()
        other.close()
        self._figures: dict[str, float] = {}
        self._receive()  # it stands before its first thing

    @property
    def process(self) -> int:
        """Its number."""
        assert self._process.pid is not None  # it was started
        return self._process.pid

    def __call__(self) -> float:
        self._connection.send(True)
        return float(self._receive())

    def stop(self) -> dict[str, float]:
        """End the process; returns its figures, ``peak_bytes`` among them."""
        if not self._figures:
            self._connection.send(False)
            self._figures = dict(self._receive())
            self._process.join()
        return self._figures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None:
            self.stop()
        else:
            self._process.terminate()
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a side of the comparison ended with {self._process.exitcode}; its error is above") from None


def _serve(
    connection: Connection, work: Callable[..., None], arguments: tuple[object, ...], environment: Mapping[str, str]
) -> None:
    os.environ.update(environment)
    try:
        work(Gate(connection), *arguments)
    except StoppedError:
        # A process that another one spawned waits at its end for its own, and those of the pool never end by themselves.
        get_reusable_executor(reuse=True).shutdown(kill_workers=True)
        return
    raise RuntimeError("expected the work to go on until it is stopped")
