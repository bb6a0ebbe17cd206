"""Work in other processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from weakclip.errors import WeakClipError
from weakclip.process_pool import in_processes


def process(number: int) -> tuple[int, int]:
    return number, os.getpid()


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "2")


def test_results_come_in_order_from_other_processes(two_workers: None) -> None:
    found = list(in_processes(process, ((number,) for number in range(20))))
    assert [number for number, _ in found] == list(range(20))
    assert os.getpid() not in {where for _, where in found}


def test_one_worker_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    assert list(in_processes(process, ((number,) for number in range(3)))) == [(number, os.getpid()) for number in range(3)]


def test_tasks_are_taken_only_a_few_ahead(two_workers: None) -> None:
    taken = []

    def tasks() -> Iterator[tuple[int]]:
        for number in range(20):
            taken.append(number)
            yield (number,)

    results = in_processes(process, tasks())
    next(results)
    assert len(taken) == 5
    results.close()


def test_an_error_in_a_task_or_between_them_is_raised(two_workers: None) -> None:
    def broken() -> Iterator[tuple[int]]:
        yield (1,)
        raise OSError("no photo")

    with pytest.raises(OSError, match="no photo"):
        list(in_processes(process, broken()))
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        list(in_processes(process, [(1, 2)]))


def test_a_killed_process_is_an_error_with_a_hint(two_workers: None) -> None:
    with pytest.raises(WeakClipError, match="a worker process died") as caught:
        list(in_processes(die, [(1,)]))
    assert "WEAKCLIP_WORKERS=1" in caught.value.hint


def test_processes_end_with_the_one_that_started_them() -> None:
    code = """
import os, signal
import joblib
from weakclip.process_pool import parallel
print(*parallel(2)(joblib.delayed(os.getpid)() for _ in range(8)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # They have its output open, so this returns when the last of them has ended.
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert len({*ended.stdout.split()}) > 0
