"""Batches made ahead."""

import threading
import time

import pytest

from weakclip.prefetch import Prefetcher


def test_each_step_is_made_once_and_in_order() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step * step

    batches = Prefetcher(make, last=5)
    assert [batches(step) for step in range(2, 6)] == [4, 9, 16, 25]
    batches.close()
    assert made == [2, 3, 4, 5]


def test_an_error_reaches_the_one_who_asks() -> None:
    def make(step: int) -> int:
        raise ValueError(f"step {step}")

    batches = Prefetcher(make, last=3)
    with pytest.raises(ValueError, match="step 0"):
        batches(0)
    batches.close()


def test_what_was_made_ahead_can_be_seen_before_it_is_asked_for() -> None:
    waiting, failed = threading.Event(), threading.Event()

    def make(step: int) -> int:
        if step == 2:
            waiting.wait(timeout=10)
        if step == 3:
            threading.Timer(0.05, failed.set).start()
            raise ValueError("step 3")
        return step

    batches = Prefetcher(make, last=3)
    assert batches.made(1) is None  # nobody has asked for anything
    batches(0)
    assert soon(batches, 1) == 1 and batches(1) == 1
    assert batches.made(2) is None  # it is being made
    waiting.set()
    assert soon(batches, 2) == 2 and batches(2) == 2
    assert failed.wait(timeout=10) and batches.made(3) is None
    with pytest.raises(ValueError, match="step 3"):
        batches(3)
    batches.close()


def soon(batches: Prefetcher[int], step: int) -> int | None:
    """What was made, within seconds."""
    end = time.monotonic() + 10
    while batches.made(step) is None and time.monotonic() < end:
        time.sleep(0.01)
    return batches.made(step)


def test_several_threads_make_several_steps_at_a_time() -> None:
    together = threading.Barrier(3, timeout=10)

    def make(step: int) -> int:
        together.wait()  # nobody passes before three are in here
        return step

    batches = Prefetcher(make, last=5, threads=3)
    assert [batches(step) for step in range(6)] == list(range(6))
    batches.close()
