"""One side of a comparison in a process of its own."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.memory import HeldTogether, descendants, held, peak_memory
from benchmarks.sides import Gate, Side

MEGABYTES = 200


def sleep(gate: Gate, seconds: float) -> None:
    gate.figures["asked"] = float(os.environ["ASKED"])
    while True:
        gate()
        time.sleep(seconds)


def fill(gate: Gate) -> None:
    gate()
    _block = bytearray(b"x") * (MEGABYTES * 10**6)
    gate()


def fail(gate: Gate) -> None:
    gate()
    raise OSError("what went wrong")


def give_up(gate: Gate) -> None:
    gate()


def test_each_call_does_one_thing_and_takes_its_time() -> None:
    with Side(sleep, 0.05, environment={"ASKED": "7"}) as side:
        seconds = [side() for _ in range(2)]
        figures = side.stop()
    assert all(0.05 <= taken < 5 for taken in seconds)
    assert figures["asked"] == 7


def test_memory_is_that_of_the_side_alone() -> None:
    mine = bytearray(b"y") * (2 * MEGABYTES * 10**6)
    with Side(fill) as side:
        side()
        peak = side.stop()["peak_bytes"]
    assert MEGABYTES * 10**6 < peak < 2 * MEGABYTES * 10**6 + 10**8
    assert peak_memory() > len(mine)


CHILD = f"""
import sys
kept = bytearray(b"y") * ({MEGABYTES} * 10**6)
print("there", flush=True)
sys.stdin.read()
"""


def fill_one_after_the_other(gate: Gate) -> None:
    """This process is full, then empty; then another one is full."""
    gate()
    filled = bytearray(b"y") * (MEGABYTES * 10**6)
    time.sleep(0.5)
    del filled
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.5)
        gate.figures["sum_of_peaks"] = peak_memory()
    gate()


def test_what_is_held_one_after_the_other_is_not_added_up() -> None:
    with Side(fill_one_after_the_other) as side:
        with HeldTogether(side.process) as memory:
            side()
        apart = side.stop()["sum_of_peaks"]
    assert memory.start + MEGABYTES * 10**6 < memory.peak < apart - 0.8 * MEGABYTES * 10**6


def test_a_copy_that_becomes_another_program_counts_when_it_is_one() -> None:
    program = "; ".join((
        f"import os, sys, time; x = b'x' * {MEGABYTES * 10**6}; print(flush=True); copied = os.fork()",
        "copied or (time.sleep(60), os._exit(0)); sys.stdin.readline(); os.kill(copied, 9)",
    ))  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not descendants(process.pid):
            time.sleep(0.01)
        alone = held(process.pid)
        process.communicate(b"\n")
    assert MEGABYTES * 10**6 < alone < 1.8 * MEGABYTES * 10**6


@pytest.mark.parametrize("work", [fail, give_up])
def test_a_side_that_ends_by_itself_is_an_error(work: object, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="its error is above"), Side(work) as side:  # type: ignore[arg-type]
        side()
    assert "Error" in capfd.readouterr().err


def test_no_process_is_left() -> None:
    before = descendants(os.getpid())
    with Side(sleep, 0.0, environment={"ASKED": "1"}) as side:
        assert len(descendants(os.getpid())) > len(before)
        side()
    assert {*descendants(os.getpid())} - {*before} <= resource_trackers()


def resource_trackers() -> set[int]:
    """Python's own helper of spawned processes, which stays."""
    from multiprocessing.resource_tracker import _resource_tracker

    return {_resource_tracker._pid}  # type: ignore[attr-defined]
