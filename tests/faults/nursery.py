"""A process that has imported the stages once and forks one for each run: most of a run would be importing torch.

Run as a module, it takes a run a line from its standard input, as JSON, and answers with a line: how it ended.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.faults import toy
from tests.faults.events import Death, Events

ROOT: Final = Path(__file__).parents[2]
STAGES: Final = (
    "prepare_dataset",
    "cache_features",
    "train_cam",
    "train_weakclip",
    "generate_masks",
    "refine_masks",
    "retrain_deeplab",
    "evaluate",
)
LOGS: Final = ("output", "errors", "events", "units")
UNITS: Final = {
    "cache_features": "weakclip.features.writer.ShardWriter.write",
    "train_cam": "weakclip.training.average_gradients",
    "train_weakclip": "weakclip.training.average_gradients",
    "generate_masks": "weakclip.scores.ScoreWriter.write",
    "refine_masks": "weakclip.refinement._refine_record",
    "retrain_deeplab": "weakclip.training.average_gradients",
    "evaluate": "weakclip.journal.Journal.append",
}
"""What is called for each unit of a stage's work. `prepare_dataset` has none that are kept: it begins anew."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended: exit status (minus the signal that killed it), what it printed, its events, its units of work, and the
    seconds and CPU seconds that it took, the number of its session, in which all of its processes are."""

    status: int
    output: str
    errors: str
    events: tuple[str, ...]
    units: int
    seconds: float
    cpu_seconds: float
    session: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """A stage in a project's folder. ``after``: seconds after which it gets a signal from outside, ``(seconds, signal)``.
    ``full_from``: see `Events`."""

    stage: str
    folder: str
    death: Death | None = None
    after: tuple[float, int] | None = None
    full_from: int | None = None
    workers: int = 1


class Nursery:
    """Runs stages, one at a time, each in a process of its own. A context manager."""

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "WEAKCLIP_DEVICE": "cpu", "WEAKCLIP_LAUNCH": ""}
        command = [sys.executable, "-m", "tests.faults.nursery", str(self._scratch)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, run: Run) -> Ended:
        """Run a stage to its end, whatever that is."""
        assert self._process.stdin is not None and self._process.stdout is not None  # they are pipes
        self._process.stdin.write(json.dumps(asdict(run)) + "\n")
        self._process.stdin.flush()
        status, seconds, cpu_seconds, session, number = json.loads(self._process.stdout.readline())
        read = {name: (self._scratch / f"{name}-{number}").read_text(encoding="utf-8") for name in LOGS}
        for name in LOGS:
            (self._scratch / f"{name}-{number}").unlink()
        return Ended(
            status=status,
            output=read["output"],
            errors=read["errors"],
            events=tuple(read["events"].splitlines()),
            units=len(read["units"]),
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            session=session,
        )


def serve(scratch: Path) -> None:
    """Take runs until there are no more."""
    _short_intervals()
    mains = {name: importlib.import_module(f"stages.{name}").main for name in STAGES} | {"toy": toy.main}
    gc.freeze()  # collecting what was imported would copy it to every child
    for number, line in enumerate(sys.stdin):
        order: dict[str, Any] = json.loads(line)
        # Of each run its own: what outlives a killed one may still have something to say.
        logs = {name: scratch / f"{name}-{number}" for name in LOGS}
        for log in logs.values():
            log.write_bytes(b"")
        start = time.monotonic()
        child = os.fork()
        if not child:
            _be(mains[order["stage"]], order, logs)
        status, cpu_seconds = _wait(child, order["after"])
        print(json.dumps([status, time.monotonic() - start, cpu_seconds, child, number]), flush=True)


def _short_intervals() -> None:
    """Let a tiny world have several flushes, shards and tasks; undisturbed runs have the same."""
    from weakclip import pseudo_masks, scores
    from weakclip.features.writer import ShardWriter

    _defaults(ShardWriter.__init__)["flush_rows"] = 4
    _defaults(scores.ScoreWriter.__init__)["images_per_shard"] = 4
    pseudo_masks.IMAGES_IN_SHARD = 4


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    named = function.__kwdefaults__
    assert named is not None
    return named


def _be(main: Callable[..., None], order: Mapping[str, Any], logs: Mapping[str, Path]) -> None:
    """Become the stage; does not return."""
    from stages import _cli

    os.setsid()
    os.chdir(order["folder"])
    os.environ["WEAKCLIP_WORKERS"] = str(order["workers"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, file in (("output", 1), ("errors", 2)):
        os.dup2(os.open(logs[name], os.O_WRONLY | os.O_APPEND), file)
    sys.argv = [order["stage"]]
    if order["stage"] in UNITS:
        _count_calls(UNITS[order["stage"]], os.open(logs["units"], os.O_WRONLY | os.O_APPEND))
    death = Death(**order["death"]) if order["death"] else None
    Events(Path(order["folder"]), logs["events"], death, order["full_from"]).watch()
    try:
        (_cli.run_here if order["stage"] == "prepare_dataset" else _cli.run)(main)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
        status = 1
    # As Python ends, short of taking apart all that was imported, which takes longer than a stage.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def survivors(session: int) -> list[int]:
    """The processes of a run that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _count_calls(name: str, log: int) -> None:
    """Write a byte for every call, at once: a count that outlives the process."""
    path, _, attribute = name.rpartition(".")
    try:
        owner: Any = importlib.import_module(path)
    except ModuleNotFoundError:  # a class
        module, _, owner_name = path.rpartition(".")
        owner = getattr(importlib.import_module(module), owner_name)
    function, write = getattr(owner, attribute), os.write

    @functools.wraps(function)
    def counted(*arguments: Any, **named: Any) -> Any:
        write(log, b".")
        return function(*arguments, **named)

    setattr(owner, attribute, counted)


def _wait(child: int, after: tuple[float, int] | None) -> tuple[int, float]:
    """Exit status and CPU seconds of a child, which gets a signal after a time if it is not over by then."""
    deadline = None if after is None else time.monotonic() + after[0]
    while True:
        ended, status, used = os.wait4(child, 0 if deadline is None else os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(child, after[1] if after else signal.SIGKILL)
            deadline = None
        time.sleep(0.005)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
    os._exit(0)
