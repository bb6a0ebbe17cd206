"""One side of a comparison in a process of its own."""

import os
import time

import pytest

from benchmarks.memory import descendants, peak_memory
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
