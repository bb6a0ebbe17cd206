"""Runs of stages side by side without DVC: each in a folder of its own, with links to the outs of the runs before it.

A run that was killed goes on where it stood: its folder keeps the stage's resume slot.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML

from benchmarks.ablation.figures import Figures, figures_of
from benchmarks.ablation.pipeline import RAW, ROOT, Run

DONE: Final = "done"
LOG: Final = "log.txt"
TRUE_MASKS: Final = "true_masks"


@dataclass(frozen=True)
class Failure:
    """A run whose command failed, and the last lines it printed."""

    run: Run
    words: str


def run_all(
    wanted: Sequence[Run],
    known: dict[str, Figures],
    work: Path,
    *,
    jobs: int,
    threads: int,
    finished: Callable[[Run, Figures], None],
) -> list[Failure]:
    """Run what is not yet known, and what that needs and lies no longer in the folder ``work``; at most ``jobs`` at a time.

    Runs come in the order of ``wanted``, so the first rows are whole first. ``finished`` is called after each. A failed run
    stops only those that need it.
    """
    order = {run: place for place, run in enumerate(_to_do(wanted, known, work))}
    waiting, failed, began = dict(order), [], {}
    gone: set[Run] = set()
    with ThreadPoolExecutor(max_workers=jobs) as pool, _children() as children:  # ended before the pool waits for them
        running: dict[Future[Figures], Run] = {}
        while waiting or running:
            for run in list(waiting):
                if any(need in gone for need in run.needs):
                    gone.add(run)
                    del waiting[run]
                elif len(running) < jobs and not any(need in waiting or need in running.values() for need in run.needs):
                    began[run] = time.monotonic()
                    running[pool.submit(execute, run, work, threads, children)] = run
                    del waiting[run]
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                try:
                    finished(run, future.result())
                except subprocess.CalledProcessError as error:
                    failed.append(Failure(run, str(error.output)))
                    gone.add(run)
    return failed


def execute(run: Run, work: Path, threads: int, children: set[subprocess.Popen[bytes]] | None = None) -> Figures:
    """Run a stage in its folder, which then holds its outs and a mark; its log is appended to."""
    folder = work / run.folder
    prepare(run, work)
    command = [sys.executable, "-m", f"stages.{run.stage.name}"]
    start = time.monotonic()
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=surroundings(threads), stdout=log, stderr=subprocess.STDOUT)
        if children is not None:
            children.add(process)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if children is not None:
            children.discard(process)
    if process.returncode:
        tail = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        raise subprocess.CalledProcessError(process.returncode, command, "\n".join(tail))
    figures = figures_of(run, folder, cpu_seconds=used.ru_utime + used.ru_stime, seconds=time.monotonic() - start)
    (folder / DONE).touch()
    return figures


def prepare(run: Run, work: Path) -> None:
    """The folder of a run: its params.yaml, the photos, the true masks under their name, the outs that it reads."""
    folder = work / run.folder
    (folder / RAW).mkdir(parents=True, exist_ok=True)
    YAML().dump(run.values, folder / "params.yaml")
    links = {f"{RAW}/{place.name}": place for place in (ROOT / RAW).iterdir()} if (ROOT / RAW).is_dir() else {}
    for need in run.needs:
        links |= {out: work / need.folder / out for out in need.stage.outs}
    if run.needs:
        links[f"{RAW}/{TRUE_MASKS}"] = folder / "data" / "dataset" / "masks"
    for name, target in links.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
        place.symlink_to(target.absolute(), target_is_directory=True)
    photos = folder / RAW / "photos"
    if not photos.exists():  # an empty folder, which the mini world does not look into, may not have been copied
        photos.unlink(missing_ok=True)
        photos.mkdir()


def surroundings(threads: int) -> dict[str, str]:
    """The environment of a stage's command: this project's code, so many threads and processes unless told otherwise."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("WEAKCLIP_WORKERS", str(threads))
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    return environment


def _to_do(wanted: Sequence[Run], known: dict[str, Figures], work: Path) -> list[Run]:
    found: dict[Run, None] = {}

    def add(run: Run) -> None:
        if run in found or ((work / run.folder / DONE).exists() and run.key in known):
            return
        for need in run.needs:
            add(need)
        found[run] = None

    for run in wanted:
        if run.key not in known:
            add(run)
    return list(found)


@contextmanager
def _children() -> Iterator[set[subprocess.Popen[bytes]]]:
    """Processes that are ended when the block is left early."""
    children: set[subprocess.Popen[bytes]] = set()
    try:
        yield children
    except BaseException:
        for process in list(children):
            with suppress(ProcessLookupError):
                process.terminate()
        raise
