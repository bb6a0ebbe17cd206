"""Work in other processes."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT
from weakclip.datasets.index import ClassList
from weakclip.datasets.verification import Candidate, verify
from weakclip.errors import WeakClipError
from weakclip.process_pool import KeptProcesses, WorkerDiedError, in_processes, note


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
    with pytest.raises(WeakClipError, match=r"a worker process died \(killed, or out of memory\)$") as caught:
        list(in_processes(die, [(1,)]))
    assert "WEAKCLIP_WORKERS=1" in caught.value.hint


def test_processes_end_with_the_one_that_started_them() -> None:
    code = """
import os, signal
from weakclip.process_pool import in_processes
print(*in_processes(os.getpid, [()] * 8, 2), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # They have its output open, so this returns when the last of them has ended.
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert len({*ended.stdout.split()}) > 0


def note_and_die(names: list[str]) -> None:
    for name in names:
        note(name)
    time.sleep(0.2)  # for the other process to finish
    if names:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_reported_with_what_it_worked_on(two_workers: None) -> None:
    with pytest.raises(WorkerDiedError, match=r"while it worked on photos/b\.jpg$") as caught:
        list(in_processes(note_and_die, [([],), (["photos/with a longer name.jpg", "photos/b.jpg"],)]))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.problem, again.hint) == (caught.value.problem, caught.value.hint)


def note_and_fill(name: str) -> None:
    note(name)
    raise MemoryError


@pytest.mark.parametrize("count", ["1", "2"])
def test_what_there_is_no_memory_for_is_named(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", count)
    with pytest.raises(WeakClipError, match=r"^a process has not enough memory while it worked on photos/a\.jpg$") as caught:
        list(in_processes(note_and_fill, [("photos/a.jpg",)]))
    assert "WEAKCLIP_WORKERS=1" in caught.value.hint


def test_the_stages_name_the_photo_at_which_a_process_died(
    tmp_path: Path, two_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [tmp_path / f"{number:02d}.png" for number in range(40)]
    for path in photos:
        Image.new("RGB", (9, 9)).save(path)
    candidates = [
        Candidate(
            image_id=path.stem, photo=str(path), split="train", tags=Deadly((1,)) if path.stem == "37" else (1,), mask=None
        )
        for path in photos
    ]
    with pytest.raises(WeakClipError, match=r"a worker process died .* while it worked on .*37\.png$"):
        verify(candidates, classes=ClassList(names=("cat",), synonyms=((),), background_words=()), on_error="skip")


class Deadly(tuple[int, ...]):
    """Tags whose reader runs out of memory, as far as the system is concerned."""

    def __bool__(self) -> bool:
        time.sleep(0.5)  # for the other process to finish
        os.kill(os.getpid(), signal.SIGKILL)
        return True


kept: list[int] = []


def keep(number: int) -> tuple[int, list[int]]:
    kept.append(number)
    return os.getpid(), list(kept)


def test_a_kept_process_finds_what_its_last_task_left() -> None:
    with KeptProcesses(2) as processes:
        assert len(processes) == 2
        results = [processes.submit(number % 2, keep, number) for number in range(4)]
        (first, _), (second, _), *last = [result() for result in results]
        assert last == [(first, [0, 2]), (second, [1, 3])] and len({first, second, os.getpid()}) == 3
    for process in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_process_that_keeps_much_is_not_replaced() -> None:
    code = """
import os, sys, time
from weakclip.process_pool import KeptProcesses
def hold(n_bytes):
    if n_bytes:
        sys.held = b"1" * n_bytes
        time.sleep(1.2)  # loky looks at what a process holds once a second
    return os.getpid()
with KeptProcesses(2) as processes:
    results = [processes.submit(0, hold, n_bytes) for n_bytes in (0, 4 * 10**8, 0)]
    print(len({result() for result in results}))
"""
    # In a process of its own: where one is replaced, the next result may never come.
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr


def test_kept_processes_end_quietly_with_a_task_on_its_way(tmp_path: Path) -> None:
    for turn in range(5):
        with KeptProcesses(1, apart=True) as processes:
            processes.submit(0, os.getpid)()
            processes.submit(0, (tmp_path / str(turn)).touch)  # which nobody waits for; a thread that fails is a failed test
    assert len(list(tmp_path.iterdir())) == 5


def test_one_kept_process_is_this_one() -> None:
    with KeptProcesses(1) as processes:
        assert processes.submit(0, os.getpid)() == os.getpid()


def test_kept_processes_end_with_the_one_that_started_them() -> None:
    code = """
import os, signal
from weakclip.process_pool import KeptProcesses
processes = KeptProcesses(2)
print(*[processes.submit(number, os.getpid)() for number in range(2)], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert len({*ended.stdout.split()}) == 2
